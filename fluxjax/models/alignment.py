"""Decoders that map features of a student onto those of its teacher."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.layers import LayerNorm, gelu, linear_init


class AlignmentDecoder(nn.Module):
    """Linear, LayerNorm, unit norm: maps a small budget's features onto the largest one's.

    Attributes:
      features: of the result; None: as many as go in.
      hidden: a linear map to as many features as go in, and GELU, come first.
      dtype: of the computation.
    """

    features: int | None = None
    hidden: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., E] -> [.., features], rows of 2-norm 1, float32."""
        dense = functools.partial(nn.Dense, kernel_init=linear_init, dtype=self.dtype)
        features = x.shape[-1] if self.features is None else self.features
        if self.hidden:  # exact GELU: only the blocks' MLPs are fused in the official code
            x = gelu(dense(x.shape[-1], name="hidden")(x), "exact")
        x = dense(features, name="head")(x)
        x = LayerNorm(dtype=self.dtype, name="norm")(x).astype(jnp.float32)
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
