"""UMT's losses where the golden files are silent: draws, and batches without negatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tasks.answer_ranking import choice_scores, rank_answers
from fluxjax.tasks.umt_losses import (
    IGNORED,
    answer_log_probs,
    hard_negatives,
    mask_words,
    mlm_loss,
    negative_weights,
    similarity,
    uta_loss,
    vtc_loss,
    vtm_loss,
)
from fluxjax.tasks.umt_terms import Texts, retrieval_terms
from fluxjax.tokens.attention_masking import race, visible_per_frame, visible_tokens
from tests.models.test_umt import clips, umt


def test_negatives_are_drawn_by_weight_and_never_from_the_group():
    scores = jnp.asarray([[9.0, 1.0, 0.0, 2.0], [0, 9, 1, 0], [2, 0, 9, 1], [1, 2, 0, 9]])
    group = jnp.asarray([0, 1, 2, 0])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.jit(jax.vmap(lambda key: hard_negatives(key, scores, group)))(keys)
    for rows, weights in (
        (drawn.text, negative_weights(scores, group)),
        (drawn.video, negative_weights(scores.T, group)),
    ):
        shares = np.stack([np.bincount(row, minlength=4) / 4000 for row in np.asarray(rows).T])
        expected = np.asarray(weights / weights.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(shares, expected, atol=0.03)
        assert np.all(shares[expected == 0] == 0)
    assert np.all(drawn.found)


def test_a_right_partner_far_ahead_leaves_negatives():
    """Its softmax takes everything: all other weights are 0 in float32."""
    scores = jnp.asarray([[900.0, 1.0, 0.0], [0, 900, 5], [0, 0, 900]])
    assert not np.any(negative_weights(scores, jnp.arange(3)))
    drawn = hard_negatives(jax.random.key(0), scores, jnp.arange(3))
    assert np.all(drawn.found) and np.all(drawn.text != np.arange(3))


def test_a_batch_of_one_video_has_no_negatives_and_a_finite_loss():
    drawn = hard_negatives(jax.random.key(0), jnp.ones((3, 3)), jnp.zeros(3, int))
    assert not np.any(drawn.found)
    logits = jnp.asarray([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    loss = vtm_loss(logits, jnp.full((6, 2), 5.0), jnp.concatenate([drawn.found] * 2))
    expected = -np.mean(np.asarray(jax.nn.log_softmax(logits))[:, 1])
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    model, variables = umt()
    texts = Texts(np.ones((3, 6), np.int32), np.ones((3, 6), np.int32))
    terms = jax.jit(
        lambda group: retrieval_terms(model, variables, clips(), texts, group, jax.random.key(1))
    )
    for group in (np.zeros(3, int), np.arange(3)):
        assert all(np.isfinite(value) for value in terms(group).values())


def test_contrast_of_groups_is_least_where_they_are_told_apart():
    group = jnp.asarray([0, 1, 0])
    apart = jnp.where(group[:, None] == group[None], 50.0, 0.0)
    # Two equal right answers: the entropy of their targets is what is left.
    assert float(vtc_loss(apart, group)) == pytest.approx(2 / 3 * np.log(2), rel=1e-5)
    assert float(vtc_loss(jnp.zeros((3, 3)), group)) == pytest.approx(np.log(3), rel=1e-5)


def test_similarity_of_frames_is_their_mean():
    frames = jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]])
    assert float(similarity(frames, jnp.asarray([[1.0, 0.0]]), 0.5)[0, 0]) == 1.0


def test_words_are_hidden_by_half_eight_tenths_of_them_as_mask():
    ids = np.tile(np.arange(10, 30), (500, 1)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[:, 15:] = 0
    shown, labels = mask_words(
        jax.random.split(jax.random.key(0), 500), ids, mask, vocabulary=1000, mask_id=4
    )
    chosen = np.asarray(labels) != IGNORED
    assert not np.any(chosen[:, 0]) and not np.any(chosen[:, 15:])
    assert np.mean(chosen[:, 1:15]) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(np.asarray(labels)[chosen], ids[chosen])
    np.testing.assert_array_equal(np.asarray(shown)[~chosen], ids[~chosen])
    became = np.asarray(shown)[chosen]
    assert np.mean(became == 4) == pytest.approx(0.8, abs=0.02)
    assert np.mean(became == ids[chosen]) == pytest.approx(0.1, abs=0.02)
    assert float(mlm_loss(jnp.zeros((1, 2, 7)), jnp.full((1, 2), IGNORED))) == 0.0


def test_visible_tokens_follow_attention():
    attention = jnp.asarray([[0.01, 0.5, 0.01, 0.48]] * 2 + [[0.25] * 4] * 2)
    draws = jax.random.exponential(jax.random.key(0), (1000, 4, 4))
    count = visible_per_frame(4, 0.5)
    order = jax.vmap(lambda draw: race(attention, draw, count))(draws)
    drawn = np.asarray(jax.vmap(lambda order: visible_tokens(order, 2, 4))(order))
    assert drawn.shape == (1000, 2, 4)
    counts = np.stack([np.bincount(drawn[:, b].ravel(), minlength=8) / 1000 for b in (0, 1)])
    assert np.all(counts[0, [1, 3, 5, 7]] > 0.9) and np.all(counts[0, [0, 2, 4, 6]] < 0.1)
    np.testing.assert_allclose(counts[1], 0.5, atol=0.05)
    assert visible_per_frame(196, 0.8) == 40
    with pytest.raises(ValueError, match="mask ratio 1"):
        visible_per_frame(196, 1)


def test_unknown_losses_are_named():
    with pytest.raises(ValueError, match="unknown loss 'l1'"):
        uta_loss(jnp.ones((1, 1, 1, 2)), jnp.ones((1, 1, 1, 2)), "l1")


def test_answers_are_ranked_by_the_whole_answer_where_asked():
    """The correct score is the probability of the answer's tokens; the official adds the first."""
    model, variables = umt(answer_layers=1)
    rng = np.random.default_rng(0)
    ids = np.concatenate([np.full((4, 1), 2), rng.integers(3, 20, (4, 3))], axis=1)
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    states = rng.standard_normal((2, 5, 16)).astype(np.float32)
    seen = np.ones((2, 5), int)

    @jax.jit
    def run(states):
        pair = [np.repeat(x, 4, axis=0) for x in (seen,)]
        logits = model.apply(
            variables, np.tile(ids, (2, 1)), np.tile(mask, (2, 1)), states.repeat(4, axis=0),
            *pair, method="answer_logits",
        )  # fmt: skip
        scores = answer_log_probs(logits, np.tile(ids, (2, 1)), np.tile(mask, (2, 1)))
        first = jax.nn.log_softmax(logits[:, 0])[np.arange(8), np.tile(ids[:, 1], 2)]
        ranked = [
            rank_answers(model, variables, states, seen, ids, mask, 9, first_token_twice=twice)
            for twice in (False, True)
        ]
        return scores.reshape(2, 4), first.reshape(2, 4), ranked

    scores, first, ranked = run(states)
    for score, answer in zip((scores, scores + first), ranked, strict=True):
        np.testing.assert_array_equal(answer.ids, np.argsort(-score, axis=1))
        expected = -np.sort(-np.asarray(jax.nn.softmax(score)), axis=1)
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)


def test_multiple_choice_weighs_matching_and_contrast():
    logits, cosines = jnp.asarray([[[0.0, 0.0], [0.0, 9.0]]]), jnp.asarray([[0.5, 0.1]])
    scores = choice_scores(logits, cosines, 0.1)
    contrast = np.exp([5.0, 1.0]) / np.exp([5.0, 1.0]).sum()
    expected = 0.7 * np.array([0.5, 1 / (1 + np.exp(-9.0))]) + 0.3 * contrast
    np.testing.assert_allclose(scores[0], expected, rtol=1e-5)
