import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tokens import selection
from fluxjax.tokens.tokens import Tokens


def features(frames, area, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(1, frames * area, width)).astype(np.float32)


def as_tokens(values, grid, slots=None):
    """Traced-grid tokens with padding up to `slots`."""
    n = values.shape[1]
    values = np.pad(values, ((0, 0), (0, (slots or n) - n), (0, 0)), constant_values=1e3)
    return Tokens.from_patches(jnp.asarray(values), jnp.array([grid]), (16, 16, 16))


def naive_selection(values, grid, budget):
    """The reference's rule in plain Python; kept slots in ascending order."""
    frames, area = grid[0], grid[1] * grid[2]
    e = values[0].reshape(frames, area, -1)
    groups = next(g for g in (4, 2, 1) if g == 1 or (frames % g == 0 and frames // g >= 2))
    size = frames // groups
    kept = []
    for g in range(groups):
        part = e[g * size : (g + 1) * size]
        d = np.linalg.norm(part[1:] - part[:-1], axis=-1)
        importance = np.concatenate([d[:1], d]).reshape(-1)
        count = min(budget, frames * area) // groups
        best = np.argsort(-importance, kind="stable")[:count]
        kept += sorted(g * size * area + best)
    return np.array(kept)


def kept_slots(tokens, budget):
    marked = tokens.replace(
        values=jnp.arange(tokens.values.shape[1], dtype=jnp.int32)[None, :, None]
    )
    ranking = selection.rank_tokens(tokens, selection.group_dynamic_scores(tokens))
    chosen = selection.select(marked, ranking, budget)
    return np.asarray(chosen.values[0, :, 0])[np.asarray(chosen.valid[0])], chosen


GRIDS = [(8, 2, 2), (12, 1, 3), (6, 2, 3), (10, 2, 1), (2, 3, 3), (4, 2, 2), (3, 2, 2), (7, 1, 2)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 2.0])
def test_selection_equals_the_rule_written_plainly(grid, share):
    values = features(grid[0], grid[1] * grid[2])
    budget = max(4, int(values.shape[1] * share))
    expected = naive_selection(values, grid, budget)
    padded, chosen = kept_slots(as_tokens(values, grid, slots=48), budget)
    np.testing.assert_array_equal(padded, expected)
    assert chosen.values.shape[1] == min(budget, 48)
    dense = as_tokens(values, grid).replace(max_grid=grid, padded=False)
    slots, chosen = kept_slots(dense, budget)
    np.testing.assert_array_equal(slots, expected)
    assert not chosen.padded and bool(chosen.valid.all()), "a static grid needs no padding"


def test_ties_keep_the_earlier_token():
    values = np.zeros((1, 8 * 4, 3), np.float32)  # nothing moves: every score is 0
    slots, _ = kept_slots(as_tokens(values, (8, 2, 2)), 12)
    np.testing.assert_array_equal(slots, [0, 1, 2, 8, 9, 10, 16, 17, 18, 24, 25, 26])


def test_first_frame_of_a_group_ties_with_the_second_exactly():
    tokens = as_tokens(features(8, 6), (8, 2, 3), slots=60)
    scores = np.asarray(selection.group_dynamic_scores(tokens))[0, :48].reshape(4, 2, 6)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])
    assert len(np.unique(scores)) == 24


def test_budgets_below_groups_are_refused_on_a_static_grid():
    tokens = as_tokens(features(8, 4), (8, 2, 2)).replace(max_grid=(8, 2, 2), padded=False)
    ranking = selection.rank_tokens(tokens, selection.group_dynamic_scores(tokens))
    with pytest.raises(ValueError, match="smaller than the 4 temporal groups"):
        selection.select(tokens, ranking, 3)
    with pytest.raises(ValueError, match="give at least 4 tokens"):
        selection.select(tokens, ranking, 0)


def test_one_frame_is_thinned_evenly():
    slots, _ = kept_slots(as_tokens(features(1, 64), (1, 8, 8), slots=80), 16)
    assert len(slots) == 16
    gaps = np.diff(slots)
    assert gaps.max() <= 8 and gaps.min() >= 2, f"uneven: {slots}"


def test_smaller_budgets_are_nested():
    tokens = as_tokens(features(12, 6), (12, 2, 3), slots=80)
    large, small = (set(kept_slots(tokens, budget)[0]) for budget in (40, 20))
    assert small < large


@pytest.mark.parametrize("frames", range(1, 26))
def test_group_number(frames):
    groups = int(selection.num_groups(frames))
    fits = [g for g in (4, 2, 1) if g == 1 or (frames % g == 0 and frames // g >= 2)]
    assert groups == max(fits)


def test_scores_are_float32_whatever_the_features():
    values = features(4, 4) + 100.0  # a difference of bfloat16 numbers near 100 is coarse
    exact = selection.group_dynamic_scores(as_tokens(values, (4, 2, 2)))
    assert exact.dtype == jnp.float32
    half = as_tokens(values.astype(jnp.bfloat16), (4, 2, 2))
    assert selection.group_dynamic_scores(half).dtype == jnp.float32


def test_random_scores_select_other_tokens_for_other_keys():
    tokens = as_tokens(features(8, 8), (8, 2, 4))
    kept = []
    for seed in range(2):
        scores = selection.random_scores(tokens, jax.random.key(seed))
        chosen = selection.select(tokens, selection.rank_tokens(tokens, scores), 16)
        kept.append(np.asarray(chosen.position[0]))
        assert np.bincount(np.asarray(chosen.position[0, :, 0]) // 2).tolist() == [4, 4, 4, 4]
    assert (kept[0] != kept[1]).any()


def test_uniform_scores_spread_over_every_group_whatever_is_shown():
    slots, kept = {}, {}
    for seed in range(2):
        tokens = as_tokens(features(8, 16, seed=seed), (8, 4, 4))
        scores = selection.selection_scores(tokens, "uniform")
        chosen = selection.select(tokens, selection.rank_tokens(tokens, scores), 32)
        slots[seed] = np.asarray(chosen.position[0] @ jnp.array([16, 4, 1]))
        kept[seed] = slots[seed].reshape(4, 8)
    np.testing.assert_array_equal(slots[0], slots[1])
    for group, chosen in enumerate(kept[0]):
        gaps = np.diff(np.concatenate([[32 * group - 1], chosen, [32 * group + 32]]))
        assert gaps.max() <= 8, f"a hole of {gaps.max()} tokens where 4 are the mean"


def test_selections_by_name():
    tokens = as_tokens(features(4, 4), (4, 2, 2))
    np.testing.assert_array_equal(
        selection.selection_scores(tokens, "group_dynamic"), selection.group_dynamic_scores(tokens)
    )
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        selection.selection_scores(tokens, "random", key), selection.random_scores(tokens, key)
    )
    with pytest.raises(ValueError, match="unknown selection 'rand'; choose one of"):
        selection.selection_scores(tokens, "rand")
    with pytest.raises(ValueError, match="needs a key"):
        selection.selection_scores(tokens, "random")
