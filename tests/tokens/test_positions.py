import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tokens import positions

TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 5, 8)), jnp.float32)


def test_the_native_grid_is_the_table_itself():
    np.testing.assert_array_equal(positions.resample_table(TABLE, (4, 3, 5), (4, 3, 5)), TABLE)


@pytest.mark.parametrize("grid", [(4, 3, 5), (1, 1, 1), (7, 2, 9), (2, 6, 3), (12, 4, 4)])
def test_traced_grid_equals_static_grid(grid):
    static = positions.resample_table(TABLE, grid, grid)
    bound = (12, 6, 9)
    traced = jax.jit(lambda g: positions.resample_table(TABLE, g, bound))(jnp.array(grid))
    t, h, w = grid
    np.testing.assert_allclose(traced[:t, :h, :w], static, atol=1e-6)


def test_linear_matches_hand_computed_weights():
    # Two samples from four: centres at 0.5 and 2.5 (half-pixel rule).
    np.testing.assert_allclose(
        positions.linear_matrix(2, 2, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], atol=1e-7
    )
    # Four from two: the outermost coordinates clamp to the border.
    np.testing.assert_allclose(
        positions.linear_matrix(4, 4, 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]], atol=1e-7
    )


def test_cubic_has_pytorchs_constant_and_sums_to_one():
    # Half way between samples the weights are a/8, 1/2 - a/8, .. = -0.09375, 0.59375 for a=-0.75.
    row = positions.cubic_matrix(3, 3, 6)[1]
    np.testing.assert_allclose(row, [0, -0.09375, 0.59375, 0.59375, -0.09375, 0], atol=1e-6)
    for size in (1, 2, 5, 9):
        np.testing.assert_allclose(positions.cubic_matrix(size, size, 4).sum(1), 1, atol=1e-6)


def test_each_clip_is_looked_up_on_its_own_grid():
    grid = jnp.array([[2, 3, 4], [5, 2, 2]], jnp.int32)
    position = jnp.array([[[1, 2, 3], [0, 0, 0]], [[4, 1, 0], [2, 0, 1]]], jnp.int32)
    codes = positions.positions_of(TABLE, position, grid, (6, 3, 4))
    for b in range(2):
        own = positions.resample_table(TABLE, tuple(grid[b].tolist()), tuple(grid[b].tolist()))
        for n in range(2):
            np.testing.assert_allclose(codes[b, n], own[tuple(position[b, n])], atol=1e-6)


def test_sincos_layout():
    table = positions.sincos_3d(32, (2, 3, 4))
    assert table.shape == (2, 3, 4, 32) and table.dtype == np.float32
    np.testing.assert_array_equal(table[0, 1, 2, :8], table[0, 2, 3, :8])  # time comes first,
    np.testing.assert_array_equal(table[0, 1, 2, 8:20], table[1, 0, 2, 8:20])  # then the column,
    np.testing.assert_array_equal(table[0, 1, 2, 20:], table[1, 1, 0, 20:])  # then the row
    np.testing.assert_allclose(table[1, 0, 0, 0], np.sin(1.0), rtol=1e-6)
    with pytest.raises(ValueError, match="multiple of 16"):
        positions.sincos_3d(24, (1, 1, 1))
