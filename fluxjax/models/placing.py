"""Tokens at their places: positions looked up on any grid, and the cls token before them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fluxjax.tokens.positions import positions_of, resample_table
from fluxjax.tokens.tokens import Tokens


def prepend_cls(cls: jax.Array, tokens: Tokens) -> tuple[jax.Array, jax.Array | None]:
    """cls [C] before tokens of [B, N, C] -> [B, 1+N, C], and which are valid; None: all are."""
    x = tokens.values
    x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, x.shape[2])), x], axis=1)
    mask = jnp.pad(tokens.valid, ((0, 0), (1, 0)), constant_values=True)
    return x, mask if tokens.padded else None


class PositionTable(NamedTuple):
    """The learned table and what is static about the grids it is looked up on."""

    table: jax.Array  # [T0, H0, W0, C]
    static_grid: tuple[int, int, int] | None
    bound: tuple[int, int, int]

    def look_up(self, tokens: Tokens) -> jax.Array:
        """Position codes [B or 1, N, C] float32 of all tokens, each on its clip's grid."""
        if self.static_grid is None:
            return positions_of(self.table, tokens.position, tokens.grid, self.bound)
        codes = resample_table(self.table, self.static_grid, self.static_grid)
        return codes.reshape(1, -1, codes.shape[-1])  # in the order of the tokens
