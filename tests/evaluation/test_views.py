"""Aggregation of views against the reference's own merge (fixture v11)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.evaluation.views import mean_probabilities, top_k_hits

_FIXTURE = Path(__file__).parents[1] / "golden" / "fluxvit" / "v11_eval_merge.npz"


def test_aggregation_matches_the_reference():
    with np.load(_FIXTURE, allow_pickle=False) as case:
        logits, labels = case["input/logits"], case["input/labels"]
        present = case["input/view_present"].reshape(len(labels), -1)
        assert not present.all()
        probs = jax.jit(mean_probabilities)(logits.reshape(*present.shape, -1), present)
        assert probs.dtype == jnp.float32
        np.testing.assert_allclose(probs, case["output/prob"], atol=1e-6)
        np.testing.assert_array_equal(np.argmax(probs, axis=-1), case["output/pred"])
        hits = jax.jit(top_k_hits, static_argnums=2)
        for k in (1, 5):
            accuracy = 100 * np.mean(hits(probs, labels, k))
            assert accuracy == pytest.approx(float(case[f"output/top{k}"]), abs=1e-4)


def test_absent_views_do_not_count_whatever_they_hold():
    logits = jnp.array([[[2.0, 0.0], [jnp.nan, 5.0]], [[0.0, 0.0], [1.0, 3.0]]], jnp.bfloat16)
    present = jnp.array([[True, False], [False, False]])
    probs = mean_probabilities(logits, present)
    np.testing.assert_allclose(probs, [[0.880797, 0.119203], [0.0, 0.0]], atol=1e-6)
    assert top_k_hits(probs, jnp.array([0, 0]), 2).tolist() == [True, False]


def test_equal_probabilities_rank_the_lower_class_first():
    probs = jnp.tile(jnp.array([[0.2, 0.3, 0.2, 0.3]]), (4, 1))
    labels = jnp.arange(4)
    expected = {1: [1], 2: [1, 3], 3: [0, 1, 3], 4: [0, 1, 2, 3]}
    for k, classes in expected.items():
        assert np.flatnonzero(top_k_hits(probs, labels, k)).tolist() == classes
    assert np.argmax(probs[0]) == 1


def test_fewer_classes_than_k():
    assert top_k_hits(jnp.array([[0.9, 0.1]]), jnp.array([1]), 5).tolist() == [True]


def test_what_cannot_be_a_hit():
    probs = jnp.array([[0.5, 0.5], [0.5, 0.5], [jnp.nan, jnp.nan]])
    assert not top_k_hits(probs, jnp.array([-1, 2, 0]), 2).any()


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="got 0"):
        top_k_hits(jnp.ones((1, 2)), jnp.array([0]), 0)
