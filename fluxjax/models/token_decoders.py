"""What maps the tokens of a student's layers onto a teacher's: a decoder a layer, with positions.

Source: OpenGVLab/InternVideo, InternVideo2/single_modality, the pre-training and distillation
models; "Unmasked Teacher" (arXiv 2303.16058) has the same without a hidden layer.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.alignment import AlignmentDecoder
from fluxjax.models.placing import PositionTable
from fluxjax.tokens.positions import sincos_3d
from fluxjax.tokens.tokens import Tokens


class TokenDecoders(nn.Module):
    """Decoders of several layers, the shallowest first; positions of their own are added before.

    Attributes:
      count: K, number of layers.
      width: C, of the student.
      features: of the teacher's tokens.
      hidden: decoders have a hidden layer, see `AlignmentDecoder`.
      cls: the cls token is decoded, too.
      grid: (T, H, W) of the position table; None: no positions.
      dtype: of the computation.
    """

    count: int
    width: int
    features: int
    hidden: bool = True
    cls: bool = True
    grid: tuple[int, int, int] | None = None
    dtype: Any = jnp.float32

    def setup(self):
        """Builds the layers."""
        if self.grid is not None:
            table = lambda key: jnp.asarray(sincos_3d(self.width, self.grid))  # noqa: E731
            self.position_table = self.param("position_table", table)
            if self.cls:
                zeros = nn.initializers.zeros
                self.cls_position = self.param("cls_position", zeros, (self.width,))
        self.decoders = [
            AlignmentDecoder(self.features, self.hidden, self.dtype) for _ in range(self.count)
        ]

    def __call__(self, layers: Sequence[jax.Array], tokens: Tokens) -> jax.Array:
        """Unit vectors of the tokens of every layer.

        Args:
          layers: K outputs of blocks, [B, 1+N, C], cls first.
          tokens: [B, N, ..], whose places the layers' tokens have.

        Returns:
          [K, B, 1+N, features] float32, without `cls` [K, B, N, features].
        """
        if not self.cls:
            layers = [x[:, 1:] for x in layers]
        if self.grid is not None:
            codes = self._positions(tokens).astype(self.dtype)
            layers = [x + codes for x in layers]
        decoders = zip(self.decoders, layers, strict=True)
        return jnp.stack([decoder(x) for decoder, x in decoders])

    def _positions(self, tokens: Tokens) -> jax.Array:
        table = PositionTable(self.position_table, tokens.static_grid, tokens.grid_bound)
        codes = table.look_up(tokens)
        if not self.cls:
            return codes
        cls = jnp.broadcast_to(self.cls_position, (codes.shape[0], 1, self.width))
        return jnp.concatenate([cls, codes], axis=1)
