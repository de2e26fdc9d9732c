"""Colour jitter: what each amount does to packed clips."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.augment.photometric import jitter
from fluxjax.tokens.tokens import IMAGENET_PIXELS, normalize_pixels, pack

GRIDS = [(4, 2, 3), (2, 2, 2)]


def clips():
    draw = np.random.default_rng(0)
    shapes = [(t, 14 * h, 14 * w, 3) for t, h, w in GRIDS]
    return [draw.integers(64, 192, shape, np.uint8) for shape in shapes]


def jittered(seed=0, **amounts):
    """Pixels [valid tokens, 196, 3] in [0, 1] of each clip, before and after."""
    tokens = pack(clips(), max_tokens=30)
    tokens = tokens.replace(values=normalize_pixels(tokens.values))
    after = jax.jit(lambda t, k: jitter(t, k, **amounts))(tokens, jax.random.key(seed))
    np.testing.assert_array_equal(after.values[~after.valid], tokens.values[~tokens.valid])

    def pixels(x):
        stats = IMAGENET_PIXELS
        return np.asarray(x.values).reshape(2, 30, 196, 3) * stats.std + np.array(stats.mean)

    pairs = zip(pixels(tokens), pixels(after), np.asarray(tokens.valid), strict=True)
    return [(before[valid], changed[valid]) for before, changed, valid in pairs]


def test_brightness_adds_one_amount_a_clip():
    added = []
    for seed in range(4):
        for before, after in jittered(seed, brightness=0.2):
            difference = after - before
            assert np.ptp(difference) < 1e-5
            added.append(difference.mean())
    assert np.ptp(added) > 0.1 and np.abs(added).max() <= 0.2 + 1e-6 and len(set(added)) == 8


def test_contrast_scales_about_the_clips_own_mean():
    for before, after in jittered(contrast=0.4):
        mean = before.mean(axis=(0, 1))
        factor = (after - mean) / (before - mean)
        factor = factor[np.abs(before - mean) > 0.05]
        assert np.ptp(factor) < 1e-3 and 0.6 <= factor.mean() <= 1.4
        assert abs(factor.mean() - 1) > 0.01


@pytest.mark.parametrize(("name", "axis"), [("saturation", 1), ("hue", 0)])
def test_only_one_of_hue_and_saturation_changes(name, axis):
    for before, after in jittered(**{name: 0.4}):
        old, new = (
            np.array([colorsys.rgb_to_hsv(*pixel) for pixel in x.reshape(-1, 3)[::50]])
            for x in (before, after)
        )
        other = 1 - axis
        assert np.abs(np.sin(np.pi * (new - old)[:, other])).max() < 1e-3
        np.testing.assert_allclose(new[:, 2], old[:, 2], atol=1e-5)
        change = new[:, axis] / old[:, axis] if axis else (new - old)[:, 0] % 1.0
        assert np.ptp(change[old[:, 1] > 0.1]) < 1e-3, "pixels of a clip differ"
        assert 0.01 < abs(np.median(change) - axis) < 0.99


def test_strong_jitter_stays_in_range_and_nothing_is_nothing():
    for _, after in jittered(brightness=0.9, contrast=0.9):
        assert after.min() >= -1e-6 and after.max() <= 1 + 1e-6
    for before, after in jittered():
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_wrong_amounts_and_raw_pixels_are_errors():
    tokens = pack(clips(), max_tokens=30)
    with pytest.raises(ValueError, match="call normalize_pixels first"):
        jitter(tokens, jax.random.key(0), contrast=0.1)
    floats = tokens.replace(values=tokens.values.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"hue=0.6 must be in \[0, 0.5\]"):
        jitter(floats, jax.random.key(0), hue=0.6)
    with pytest.raises(ValueError, match="saturation=-1 must be 0 or more"):
        jitter(floats, jax.random.key(0), saturation=-1)
