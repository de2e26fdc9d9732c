import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tokens.flat_positions import flat_positions, flat_sincos
from fluxjax.tokens.tokens import Tokens, pack
from fluxjax.tokens.tubelets import frames_of, tubelets

PATCH = 2
VIDEO = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6, 3), np.uint8)  # odd, not square


def cubes_by_hand(video, length):
    """[N, length*patch*patch*3] of one clip, by loops."""
    frames, height, width, _ = video.shape
    rows = []
    for t in range(0, frames, length):
        for y in range(0, height, PATCH):
            for x in range(0, width, PATCH):
                times = [min(t + i, frames - 1) for i in range(length)]
                rows.append(video[times, y : y + PATCH, x : x + PATCH].reshape(-1))
    return np.stack(rows)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("path", ["dense", "packed"])
def test_cubes_are_those_of_the_video(length, path):
    if path == "dense":
        tokens = Tokens.from_video(VIDEO, PATCH)
    else:
        tokens = pack([VIDEO[0], VIDEO[1, :4, :, :4]], 35, PATCH)
    cubes = tubelets(tokens, length)
    clips = VIDEO if path == "dense" else [VIDEO[0], VIDEO[1, :4, :, :4]]
    for b, clip in enumerate(clips):
        expected = cubes_by_hand(clip, length)
        np.testing.assert_array_equal(cubes.values[b, : len(expected)], expected)
        assert int(cubes.valid[b].sum()) == len(expected)
        grid = (-(-clip.shape[0] // length), clip.shape[1] // PATCH, clip.shape[2] // PATCH)
        assert tuple(cubes.grid[b].tolist()) == grid
    assert (cubes.static_grid is not None) == (path == "dense")


def test_slots_are_enough_for_every_grid_and_exact_for_one():
    grids = jnp.array([[1, 2, 2], [3, 2, 2]])
    odd = Tokens.from_patches(jnp.zeros((2, 12, 12)), grids, (3, 2, 2))
    assert tubelets(odd, 2).valid.sum(axis=1).tolist() == [4, 8]
    even = Tokens.from_patches(jnp.zeros((1, 16, 12)), grids[:1], (4, 2, 2))
    assert tubelets(even, 2).valid.shape == (1, 8)


def test_frames_of_a_tubelet():
    tokens = Tokens.from_video(VIDEO, PATCH)
    cubes = tubelets(tokens, 2)
    patches = frames_of(cubes, 2, jnp.full((2, 1), 5))
    assert int(patches.valid[0].sum()) == 5 * 6  # the frame that was repeated is none
    pairs = zip(patches.position[0].tolist(), patches.values[0], strict=True)
    by_place = {tuple(place): value for place, value in pairs}
    for place, value in zip(tokens.position[0].tolist(), tokens.values[0], strict=True):
        np.testing.assert_array_equal(by_place[tuple(place)], value)


def test_positions_are_interleaved_and_keep_their_precision():
    table = flat_sincos(6, 2000)
    assert table.dtype == np.float32 and table[0].tolist() == [0, 1, 0, 1, 0, 1]
    angle = 1999 / 10000 ** (2 / 6)
    np.testing.assert_allclose(table[1999, 2:4], [np.sin(angle), np.cos(angle)], atol=1e-7)


def test_positions_on_other_grids():
    tokens = Tokens.from_video(jnp.zeros((1, 4, 4, 6, 3)), PATCH)
    own = flat_sincos(8, 24)[None]
    np.testing.assert_array_equal(flat_positions(8, tokens), own)
    np.testing.assert_array_equal(flat_positions(8, tokens, (4, 2, 3)), own)
    # Twice as long: linear in time, half-pixel centres; the ends are clamped.
    made = flat_positions(8, tokens, (2, 2, 3)).reshape(4, 6, 8)
    table = flat_sincos(8, 12).reshape(2, 6, 8)
    for t, share in enumerate((0.0, 0.25, 0.75, 1.0)):
        np.testing.assert_allclose(made[t], (1 - share) * table[0] + share * table[1], atol=1e-6)


def test_packed_positions_are_those_of_dense_clips():
    clips = [np.zeros((4, 4, 6, 3), np.uint8), np.zeros((2, 6, 4, 3), np.uint8)]
    tokens = pack(clips, 30, PATCH)
    run = jax.jit(flat_positions, static_argnums=(0, 2))
    for grid in (None, (2, 2, 3)):
        made = jnp.broadcast_to(run(8, tokens, grid), (2, 30, 8))
        for b, clip in enumerate(clips):
            alone = flat_positions(8, Tokens.from_video(clip[None], PATCH), grid)[0]
            np.testing.assert_allclose(made[b, : len(alone)], alone, atol=1e-6)
