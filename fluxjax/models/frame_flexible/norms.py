"""Batch normalisation with PyTorch's statistics.

Flax's own keeps the biased variance of a batch; PyTorch, and so every released weight file, keeps
the unbiased one and normalises by the biased one.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5
MOMENTUM = 0.1  # of the batch, torch's convention


class BatchNorm(nn.Module):
    """Normalises channels over all other axes, [.., C] -> [.., C].

    Parameters scale and bias [C]; collection "batch_stats" with mean and var [C], float32. Under
    `jit` with a batch cut over devices the statistics are of the whole batch ("synchronised").

    Attributes:
      zero_scale: start with scale 0 instead of 1.
      dtype: of the result.
    """

    zero_scale: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[.., C] -> [.., C].

        Args:
          x: the features.
          train: normalise by the batch and move the kept statistics, which must be mutable.
        """
        width, count = x.shape[-1], math.prod(x.shape[:-1])
        first = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", first, (width,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (width,), jnp.float32)
        kept_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,), jnp.float32)
        kept_var = self.variable("batch_stats", "var", jnp.ones, (width,), jnp.float32)
        mean, var = kept_mean.value, kept_var.value
        if train:
            mean, var = _moments(x.astype(jnp.float32))
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                kept_mean.value += MOMENTUM * (mean - kept_mean.value)
                kept_var.value += MOMENTUM * (unbiased - kept_var.value)
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        return ((x.astype(jnp.float32) - mean) * factor + bias).astype(self.dtype)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance [C] of [.., C], in two passes: no difference of large squares."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axis=axes)
    return mean, jnp.mean(jnp.square(x - mean), axis=axes)
