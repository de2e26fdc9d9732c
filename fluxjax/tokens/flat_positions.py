"""VideoMAE's fixed positions: an interleaved sinusoid of a token's number in its clip."""

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.tokens.positions import positions_of, resample_table
from fluxjax.tokens.tokens import Tokens


def flat_sincos(channels: int, rows: int) -> np.ndarray:
    """Table [rows, channels] float32: sines in even channels, cosines in odd ones.

    Angles are n / 10000^(2 floor(j / 2) / channels) of row n and channel j, in float64.
    """
    exponent = 2 * (np.arange(channels) // 2) / channels
    angle = np.arange(rows)[:, None] / np.power(10000.0, exponent)[None]
    return np.where(np.arange(channels) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


def flat_positions(
    channels: int, tokens: Tokens, grid: tuple[int, int, int] | None = None
) -> jax.Array:
    """Position codes of all tokens of clips, each on its own grid.

    Args:
      channels: C.
      tokens: [B, N, D], all of each clip's, row-major.
      grid: (T, H, W) that the table is made for and resampled from to other grids: linear along
        time, bicubic in space. None: the table is made for each clip's own grid.

    Returns:
      [B or 1, N, C] float32; of padding anything.
    """
    n = tokens.valid.shape[1]
    if grid is None or tokens.static_grid == tuple(grid):
        return jnp.asarray(flat_sincos(channels, n))[None]  # a row does not depend on the grid
    table = jnp.asarray(flat_sincos(channels, int(np.prod(grid))).reshape(*grid, channels))
    if tokens.static_grid is None:
        return positions_of(table, tokens.position, tokens.grid, tokens.grid_bound)
    codes = resample_table(table, tokens.static_grid, tokens.static_grid)
    return codes.reshape(1, n, channels)
