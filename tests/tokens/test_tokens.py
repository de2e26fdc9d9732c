import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.tokens import grids, tokens


def random_clip(frames, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_patches_are_row_major_and_channel_fastest():
    clip = random_clip(2, 28, 42)
    patches = grids.clip_patches(clip)
    assert patches.shape == (12, 588) and patches.dtype == np.uint8
    t, h, w = 1, 1, 2
    block = clip[t, h * 14 : h * 14 + 14, w * 14 : w * 14 + 14]
    np.testing.assert_array_equal(patches[(t * 2 + h) * 3 + w], block.reshape(-1))


def test_patchify_equals_the_host_version_and_unpatchify_inverts_it():
    clip = random_clip(3, 28, 56)
    values = tokens.patchify(jnp.asarray(clip)[None])
    np.testing.assert_array_equal(values[0], grids.clip_patches(clip))
    np.testing.assert_array_equal(tokens.unpatchify(values, (3, 2, 4))[0], clip)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_clip_patches_keeps_any_dtype(dtype):
    clip = random_clip(1, 14, 28).astype(dtype)
    assert grids.clip_patches(clip).dtype == dtype
    np.testing.assert_array_equal(grids.clip_patches(clip)[1], clip[0, :, 14:].reshape(-1))


def test_packed_tokens_of_mixed_grids():
    clips = [random_clip(2, 28, 42), random_clip(3, 14, 14), random_clip(1, 42, 28)]
    packed = fluxjax.pack(clips, max_tokens=16)
    assert packed.values.shape == (3, 16, 588) and packed.values.dtype == jnp.uint8
    np.testing.assert_array_equal(packed.grid, [[2, 2, 3], [3, 1, 1], [1, 3, 2]])
    np.testing.assert_array_equal(packed.valid.sum(axis=1), [12, 3, 6])
    assert bool(jnp.all(packed.valid[:, :-1] >= packed.valid[:, 1:])), "valid is not a prefix"
    np.testing.assert_array_equal(packed.position[0, 11], [1, 1, 2])
    np.testing.assert_array_equal(packed.position[1, :3, 0], [0, 1, 2])
    np.testing.assert_array_equal(packed.position[2, 3], [0, 1, 1])
    assert not np.asarray(packed.values[1, 3:]).any(), "padding is not zero"
    assert packed.max_grid == (8, 8, 8) and packed.static_grid is None


def test_dense_tokens_know_their_grid_while_tracing():
    seen = []

    def look(video):
        seen.append(tokens.Tokens.from_video(video).static_grid)
        return video

    jax.jit(look)(jnp.zeros((2, 3, 28, 42, 3)))
    assert seen == [(3, 2, 3)]


def test_pixels_are_normalised_like_floats():
    clip = random_clip(1, 14, 14)
    by_hand = (clip / 255.0 - np.array(tokens.IMAGENET_PIXELS.mean)) / np.array(
        tokens.IMAGENET_PIXELS.std
    )
    values = tokens.normalize_pixels(jnp.asarray(grids.clip_patches(clip)))
    np.testing.assert_allclose(values, grids.clip_patches(by_hand), rtol=1e-5, atol=1e-6)
    already = jnp.ones((1, 588)) * 3
    assert tokens.normalize_pixels(already) is already


def test_gather_takes_slots_with_their_positions():
    packed = fluxjax.pack([random_clip(2, 28, 28)], max_tokens=8)
    index = jnp.array([[1, 6]])
    taken = tokens.gather(packed, index, jnp.ones((1, 2), bool))
    np.testing.assert_array_equal(taken.position[0], [[0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(taken.values[0, 1], packed.values[0, 6])


@pytest.mark.parametrize(
    ("clips", "arguments", "message"),
    [
        ([], {}, "at least one clip"),
        ([random_clip(2, 28, 28)], {"max_tokens": 7}, "8 tokens, more than max_tokens=7"),
        ([random_clip(2, 20, 28)], {}, "multiples of 14"),
        ([random_clip(2, 28, 28)[0]], {}, r"\[T, H, W, 3\]"),
        ([random_clip(2, 28, 28)], {"max_grid": (1, 2, 2)}, "exceeds max_grid"),
        ([random_clip(1, 14, 14), np.zeros((1, 14, 14, 3))], {}, "differ in dtype"),
    ],
)
def test_pack_names_what_is_wrong(clips, arguments, message):
    with pytest.raises(ValueError, match=message):
        fluxjax.pack(clips, **({"max_tokens": 64} | arguments))


def test_traced_grids_need_a_static_bound():
    patches, grid = jnp.zeros((1, 4, 588)), jnp.array([[1, 2, 2]])

    def bound(patches, grid):
        return tokens.Tokens.from_patches(patches, grid).grid_bound

    assert bound(patches, grid) == (1, 2, 2)
    with pytest.raises(ValueError, match="max_grid"):
        jax.jit(bound)(patches, grid)


def test_fitting_grids_are_those_of_the_released_recipe():
    found = grids.fitting_grids(range(6, 26, 2), range(112, 364, 28), 2048, 6144)
    assert len(found) == 41  # specification of FluxViT, section 4.1
    assert grids.Grid(12, 224) in found and grids.Grid(12, 224).tokens() == 3072
    assert grids.Grid(6, 224) not in found
    assert grids.max_grid(found) == (24, 24, 24)


@pytest.mark.parametrize("text", ["8", "8x", "axb", "8x0", "8x224x3"])
def test_grid_texts_that_are_none(text):
    with pytest.raises(ValueError, match=r"8x224|positive"):
        grids.parse_grid(text)


def test_grids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="not multiples of the patch"):
        grids.fitting_grids([2], [100], 1, 100)
    with pytest.raises(ValueError, match="no grid"):
        grids.fitting_grids([2], [28], 100, 200)
