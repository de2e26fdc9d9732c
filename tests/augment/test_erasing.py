"""Random erasing: where its boxes lie, and what is in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.augment import erasing
from fluxjax.tokens.tokens import Tokens, normalize_pixels, pack, unpatchify

GRIDS = np.int32([(4, 8, 6), (2, 3, 5)])  # 112 x 84 and 42 x 70 pixels


@pytest.fixture(scope="module")
def boxes():
    """2000 draws for clips on each of two grids, [2000, 2, 4]."""
    keys = jax.random.split(jax.random.key(0), 2000)
    many = jax.jit(jax.vmap(lambda key, grid: erasing.draw(key, grid, 14), in_axes=(0, None)))
    return np.asarray(many(keys, jnp.asarray(GRIDS)))


def test_boxes_follow_the_probabilities(boxes):
    for clip, picture in enumerate(GRIDS[:, 1:] * 14):
        yl, yh, xl, xh = boxes[:, clip].T
        erased = yh > yl
        np.testing.assert_array_equal(erased, xh > xl)
        assert erased.mean() == pytest.approx(0.25, abs=0.03)
        height, width = (yh - yl)[erased], (xh - xl)[erased]
        assert yl.min() >= 0 and xl.min() >= 0
        assert (height < picture[0]).all() and (width < picture[1]).all()
        assert yh.max() == picture[0] and xh.max() == picture[1], "the last rows are never erased"
        share = height * width / picture.prod()
        assert 0.015 < share.min() < 0.04 and 0.3 < share.max() < 0.35
    first = boxes[boxes[:, 0, 1] > boxes[:, 0, 0], 0]
    ratio = np.log((first[:, 1] - first[:, 0]) / (first[:, 3] - first[:, 2]))
    assert ratio.min() == pytest.approx(-np.log(1 / 0.3), abs=0.2)
    assert ratio.max() == pytest.approx(np.log(1 / 0.3), abs=0.2)
    # Boxes that do not fit are drawn again, which bends a uniform share's mean of 0.177 little.
    area = np.prod(first[:, 1::2] - first[:, ::2], axis=1) / (112 * 84)
    assert area.mean() == pytest.approx(0.17, abs=0.015)
    both = (boxes[:, :, 1] > boxes[:, :, 0]).all(axis=1)
    assert both.mean() == pytest.approx(0.25**2, abs=0.02), "clips are not drawn for themselves"


def test_pictures_that_no_box_fits_stay():
    draw = jax.jit(lambda key: erasing.draw(key, jnp.array([[1, 4, 4]]), 14, prob=1.0,
                                            area=(1.0, 1.0), aspect=(1.0, 1.0)))  # fmt: skip
    yl, yh, xl, xh = draw(jax.random.key(0))[0]
    assert yl == yh and xl == xh


def clips():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (t, 14 * h, 14 * w, 3), np.uint8) for t, h, w in GRIDS]


def test_a_box_is_the_same_in_all_frames_and_nothing_else_changes():
    tokens = pack(clips(), max_tokens=200)
    tokens = tokens.replace(values=normalize_pixels(tokens.values))
    given = np.int32([(10, 45, 3, 80), (0, 0, 0, 0)])
    erased = jax.jit(erasing.apply)(tokens, given, jax.random.key(1))
    np.testing.assert_array_equal(erased.values[1], tokens.values[1])
    np.testing.assert_array_equal(erased.values[0, 192:], tokens.values[0, 192:])  # padding
    before, after = (unpatchify(x.values[:1, :192], (4, 8, 6))[0] for x in (tokens, erased))
    inside = np.zeros((4, 112, 84, 3), bool)
    inside[:, 10:45, 3:80] = True
    np.testing.assert_array_equal(before != after, inside)
    noise = np.asarray(after)[inside].reshape(4, -1)
    assert noise.mean() == pytest.approx(0, abs=0.03) and noise.std() == pytest.approx(1, abs=0.03)
    assert len(np.unique(noise)) > 0.99 * noise.size, "noise repeats"
    assert np.abs(np.corrcoef(noise) - np.eye(4)).max() < 0.06, "frames share noise"


def test_erase_draws_with_the_key_and_applies():
    tokens = Tokens.from_video(jnp.zeros((8, 2, 42, 56, 3)))
    erase = jax.jit(lambda key, prob=0.5: erasing.erase(tokens, key, prob=prob))
    one, again, other = (erase(jax.random.key(seed)).values for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    touched = np.asarray(one != 0).any(axis=(1, 2))
    assert 0 < touched.sum() < 8
    np.testing.assert_array_equal(
        jax.jit(lambda key: erasing.erase(tokens, key, prob=0.0))(jax.random.key(0)).values, 0
    )


def test_dtype_is_kept():
    tokens = Tokens.from_video(jnp.zeros((2, 2, 28, 28, 3), jnp.bfloat16))
    erase = jax.jit(lambda key: erasing.erase(tokens, key, prob=1.0))
    assert erase(jax.random.key(0)).values.dtype == jnp.bfloat16


def test_what_cannot_be_erased_is_refused():
    def erase(values, **options):
        tokens = Tokens.from_patches(values, np.int32([[1, 2, 2]]), (1, 2, 2))
        jax.eval_shape(lambda key: erasing.erase(tokens, key, **options), jax.random.key(0))

    pixels = jnp.zeros((1, 4, 588))
    with pytest.raises(ValueError, match="uint8"):
        erase(pixels.astype(jnp.uint8))
    with pytest.raises(ValueError, match="384"):
        erase(jnp.zeros((1, 4, 384)))
    with pytest.raises(ValueError, match=r"prob=1.5"):
        erase(pixels, prob=1.5)
    for wrong in ({"area": (0.5, 0.2)}, {"area": (0.5, 1.2)}, {"aspect": (0.0, 1.0)}):
        with pytest.raises(ValueError, match="ascending"):
            erase(pixels, **wrong)
