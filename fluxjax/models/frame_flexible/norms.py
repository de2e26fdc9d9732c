"""Batch normalisation with PyTorch's statistics.

Flax's own keeps the biased variance of a batch; PyTorch, and so every released weight file, keeps
the unbiased one and normalises by the biased one.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5
MOMENTUM = 0.1  # of the batch, torch's convention


class BatchNorm(nn.Module):
    """Normalises channels over all other axes, [.., C] -> [.., C].

    Parameters scale and bias [C]; collection "batch_stats" with mean and var [C], float32.

    Attributes:
      zero_scale: start with scale 0 instead of 1.
      groups: equal parts of the batch, in order, that are normalised apart in training. 1: the
        whole batch, over however many devices it is cut ("synchronised"); as many as devices: each
        one's part ("local"), and the first part's statistics are kept, as in torch's DataParallel.
      dtype: of the result.
    """

    zero_scale: bool = False
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """[.., C] -> [.., C].

        Args:
          x: the features; in training the first axis is a multiple of `groups`.
          train: normalise by the batch and move the kept statistics, which must be mutable.
        """
        width = x.shape[-1]
        first = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", first, (width,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (width,), jnp.float32)
        kept_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,), jnp.float32)
        kept_var = self.variable("batch_stats", "var", jnp.ones, (width,), jnp.float32)
        if not train:
            factor = scale * jax.lax.rsqrt(kept_var.value + EPSILON)
            y = (x.astype(jnp.float32) - kept_mean.value) * factor + bias
            return y.astype(self.dtype)
        rows = x.astype(jnp.float32).reshape(self.groups, -1, width)
        # In two passes: no difference of large squares.
        mean = jnp.mean(rows, axis=1, keepdims=True)
        var = jnp.mean(jnp.square(rows - mean), axis=1, keepdims=True)
        if not self.is_initializing():
            count = rows.shape[1]
            unbiased = var[0, 0] * (count / max(count - 1, 1))
            kept_mean.value += MOMENTUM * (mean[0, 0] - kept_mean.value)
            kept_var.value += MOMENTUM * (unbiased - kept_var.value)
        y = (rows - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + bias
        return y.reshape(x.shape).astype(self.dtype)
