"""Properties of token merging that the official code does not have."""

import jax
import numpy as np
import pytest

from fluxjax.tokens.merging import check_schedule, merge_count
from fluxjax.tokens.merging import merge as eager_merge
from fluxjax.tokens.merging import saliency as eager_saliency

merge = jax.jit(eager_merge, static_argnames=("r", "protect_first"))
saliency = jax.jit(eager_saliency, static_argnames="measure")
RNG = np.random.default_rng(0)


def clips(b=2, n=12, c=6):
    return RNG.normal(size=(b, n, c)).astype(np.float32)


def attention_of(n, b=2, heads=2):
    weights = np.exp(3 * RNG.normal(size=(b, heads, n, n)).astype(np.float32))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_saliency_of_degenerate_attention_is_a_number():
    """Uniform and one-hot attention give NaN in the official code."""
    uniform = np.full((1, 2, 6, 6), 1 / 6, np.float32)
    one_hot = np.broadcast_to(np.eye(6, dtype=np.float32), (1, 2, 6, 6))
    for weights in (uniform, one_hot):
        np.testing.assert_array_equal(saliency(weights), np.ones((1, 6)))
    mixed = np.concatenate([uniform[:, :, :3], one_hot[:, :, 3:]], axis=2)
    np.testing.assert_allclose(saliency(mixed), [[0, 0, 0, 1, 1, 1]], atol=1e-6)


@pytest.mark.parametrize("r", [3, 0.3, 100])
@pytest.mark.parametrize("protect", [False, True])
def test_a_padded_clip_merges_as_alone(r, protect):
    n, own = 14, 9
    x, weights = clips(1, own), attention_of(own, 1)
    alone = merge(x, saliency(weights), r, protect_first=protect)
    padded = np.full((2, n, x.shape[-1]), np.nan, np.float32)
    padded[0, :own], padded[1] = x, clips(1, n)[0]
    valid = np.arange(n)[None] < np.array([[own], [n]])
    wide = np.zeros((2, 2, n, n), np.float32)
    wide[:1, :, :own, :own] = weights
    wide[1:] = attention_of(n, 1)
    score = saliency(wide, valid)
    merged = merge(padded, score, r, valid=valid, protect_first=protect)
    left = own - merge_count(own, r, protect)
    assert merged.valid.sum(axis=1).tolist() == [left, n - merge_count(n, r, protect)]
    np.testing.assert_allclose(merged.values[0, :left], alone.values[0], rtol=1e-6)
    np.testing.assert_allclose(merged.mass[0, :left], alone.mass[0], rtol=1e-6)
    np.testing.assert_array_equal(merged.assignment[0, :own], alone.assignment[0])
    assert (merged.assignment[0, own:] == -1).all()


@pytest.mark.parametrize("n", [8, 9])
def test_the_first_token_stays_where_protected(n):
    x = clips(1, n)
    x[0, 1] = x[0, 0]  # its partner is as similar as can be
    merged = merge(x, None, n, protect_first=True)
    assert merged.values.shape[1] == n - (n - 1) // 2
    np.testing.assert_array_equal(merged.values[0, 0], x[0, 0])
    free = merge(x, None, n).assignment[0]
    assert free[0] == free[1]


def test_merging_equal_tokens_keeps_them_and_mass_adds_up():
    x = np.repeat(clips(2, 4), 2, axis=1)  # pairs of equal neighbours
    merged = merge(x, None, 4)
    np.testing.assert_allclose(merged.values, x[:, 1::2], rtol=1e-6)
    np.testing.assert_array_equal(merged.mass, np.full((2, 4), 2.0))


def test_no_gradient_through_saliency():
    x = clips()
    score = lambda w: merge(x, saliency(w), 4).values.sum()  # noqa: E731
    assert not np.any(jax.jit(jax.grad(score))(attention_of(12)))
    values = jax.jit(jax.grad(lambda y: merge(y, None, 4).values.sum()))(x)
    assert np.all(np.isfinite(values)) and np.any(values)


def test_counts_and_schedules():
    assert [merge_count(n, 0.29) for n in (100, 101)] == [28, 29]  # rounded down, as in the code
    assert merge_count(10, 1) == 1 and merge_count(10, 99) == 5 and merge_count(0, 3) == 0
    assert check_schedule([4, 0.5], 4) == (4, 0.5, 0, 0)
    for wrong in ([-1], [float("nan")]):
        with pytest.raises(ValueError, match="share below 1"):
            check_schedule(wrong, 4)
    with pytest.raises(ValueError, match="longer than the 2 blocks"):
        check_schedule([1, 1, 1], 2)
    with pytest.raises(ValueError, match=r"merge schedule 5 must be a tuple, e.g. \(5,\)"):
        check_schedule(5, 2)
    with pytest.raises(ValueError, match="block 0 cannot merge 16 of 16 tokens; at most 8 can"):
        check_schedule((16,), 2, tokens=16)
    with pytest.raises(ValueError, match="'gini'"):
        saliency(np.ones((1, 1, 2, 2)), measure="variance")
