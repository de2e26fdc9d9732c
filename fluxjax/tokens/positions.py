"""Position tables: sin-cos initial values, and resampling to any grid, static or traced.

FluxViT resamples its learned table from the training grid to the grid of the clip: linear along
time, bicubic (a = -0.75, half-pixel centres, no antialias) along height and width. Each axis is a
fixed linear map, so a table is resampled by three small matrices. Their sizes come from the clip's
grid, which may be data: one compiled program serves all grids.
"""

import jax
import jax.numpy as jnp
import numpy as np

CUBIC_A = -0.75  # PyTorch's bicubic constant; jax.image.resize has -0.5 and antialiases


def sincos_1d(channels: int, positions: np.ndarray) -> np.ndarray:
    """Positions [N] -> sine-cosine code [N, channels] float32: all sines, then all cosines."""
    frequency = 1.0 / 10000 ** (np.arange(channels // 2, dtype=np.float32) / (channels / 2.0))
    angle = positions.astype(np.float32)[:, None] * frequency[None]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def sincos_3d(channels: int, grid: tuple[int, int, int]) -> np.ndarray:
    """Table [T, H, W, channels] float32; time in the first quarter, then column, then row.

    Raises:
      ValueError: if `channels` is not a multiple of 16.
    """
    if channels % 16:
        raise ValueError(f"3-D sin-cos positions need a multiple of 16 channels, got {channels}")
    t, h, w = grid
    time = sincos_1d(channels // 4, np.arange(t))[:, None, None]
    row = sincos_1d(channels * 3 // 8, np.arange(h))[None, :, None]
    column = sincos_1d(channels * 3 // 8, np.arange(w))[None, None]
    parts = [np.broadcast_to(p, (t, h, w, p.shape[-1])) for p in (time, column, row)]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def linear_matrix(rows: int, size_out: jax.Array | int, size_in: int) -> jax.Array:
    """[rows, size_in] float32 that resamples an axis linearly from size_in to size_out samples.

    Row i holds the weights of output sample i; rows from `size_out` on are meaningless.
    Half-pixel centres, source coordinate clamped at 0 (torch's interpolate, align_corners=False).
    """
    scale = jnp.float32(size_in) / jnp.asarray(size_out, jnp.float32)
    source = jnp.maximum((jnp.arange(rows, dtype=jnp.float32) + 0.5) * scale - 0.5, 0.0)
    low = jnp.floor(source)
    fraction = source - low
    taps = jnp.stack([low, low + 1], axis=1)
    return _scatter_taps(taps, jnp.stack([1 - fraction, fraction], axis=1), size_in)


def cubic_matrix(rows: int, size_out: jax.Array | int, size_in: int) -> jax.Array:
    """[rows, size_in] float32 as `linear_matrix`, bicubic with a = -0.75.

    The coordinate is not clamped, the taps are.
    """
    scale = jnp.float32(size_in) / jnp.asarray(size_out, jnp.float32)
    source = (jnp.arange(rows, dtype=jnp.float32) + 0.5) * scale - 0.5
    low = jnp.floor(source)
    distance = jnp.abs((source - low)[:, None] - jnp.arange(-1, 3, dtype=jnp.float32))
    a = CUBIC_A
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    taps = low[:, None] + jnp.arange(-1, 3)
    return _scatter_taps(taps, jnp.where(distance <= 1, near, far), size_in)


def _scatter_taps(taps: jax.Array, weights: jax.Array, size_in: int) -> jax.Array:
    """Rows of tap weights [rows, k] -> dense [rows, size_in]; taps beyond the border clamp."""
    taps = jnp.clip(taps, 0, size_in - 1).astype(jnp.int32)
    one_hot = taps[..., None] == jnp.arange(size_in)
    return jnp.sum(jnp.where(one_hot, weights[..., None], 0.0), axis=1)


def resample_table(
    table: jax.Array, grid: jax.Array | tuple[int, int, int], bound: tuple[int, int, int]
) -> jax.Array:
    """Resamples a table to one grid: first time, then height and width.

    Args:
      table: [T0, H0, W0, C] learned positions.
      grid: (T, H, W) wanted, python ints or a traced [3] array.
      bound: static (Tm, Hm, Wm), no axis smaller than the grid's.

    Returns:
      [Tm, Hm, Wm, C] float32; entries outside the grid are meaningless.
    """
    exact = jax.lax.Precision.HIGHEST
    table = table.astype(jnp.float32)
    time = linear_matrix(bound[0], grid[0], table.shape[0])
    height = cubic_matrix(bound[1], grid[1], table.shape[1])
    width = cubic_matrix(bound[2], grid[2], table.shape[2])
    table = jnp.einsum("at,thwc->ahwc", time, table, precision=exact)
    table = jnp.einsum("bh,ahwc->abwc", height, table, precision=exact)
    return jnp.einsum("dw,abwc->abdc", width, table, precision=exact)


_resample = jax.jit(resample_table, static_argnums=(1, 2))


def resampled(table: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    """A position table [T0, H0, W0, C] on another grid; untouched if it is its own."""
    if tuple(table.shape[:3]) == tuple(grid):
        return table
    return _resample(table, tuple(grid), tuple(grid))


def positions_of(
    table: jax.Array, position: jax.Array, grid: jax.Array, bound: tuple[int, int, int]
) -> jax.Array:
    """Position codes of given tokens, each clip on its own grid.

    The table is resampled once where all clips turn out to be on one grid, as in most training
    batches, and once a clip otherwise.

    Args:
      table: [T0, H0, W0, C].
      position: [B, N, 3] int32 (t, h, w) in the clip's grid.
      grid: [B, 3] int32.
      bound: static (Tm, Hm, Wm) that no grid exceeds.

    Returns:
      [B, N, C] float32.
    """
    slot = (position[..., 0] * bound[1] + position[..., 1]) * bound[2] + position[..., 2]

    def look_up(grid, slot):
        codes = resample_table(table, grid, bound)
        # Padding may point anywhere; mode="clip" keeps it inside.
        return jnp.take(codes.reshape(-1, codes.shape[-1]), slot, axis=0, mode="clip")

    return jax.lax.cond(
        jnp.all(grid == grid[:1]),
        lambda: look_up(grid[0], slot),
        lambda: jax.vmap(look_up)(grid, slot),
    )
