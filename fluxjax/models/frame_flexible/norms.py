"""Normalisation and weight alteration that each branch has of its own.

Source: "Frame Flexible Network" (arXiv 2303.14817), BeSpontaneous/FFN-pytorch; statistics as
torch.nn.BatchNorm keeps them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_MOMENTUM = 0.1


class _Scales(nn.Module):
    """Scale and bias [C] of one branch."""

    scale_init: Callable[..., jax.Array] = nn.initializers.ones

    @nn.compact
    def __call__(self, width: int) -> tuple[jax.Array, jax.Array]:
        scale = self.param("scale", self.scale_init, (width,))
        return scale, self.param("bias", nn.initializers.zeros, (width,))


class _Statistics(_Scales):
    """Scale, bias, and running mean and variance [C] of one branch."""

    @nn.compact
    def __call__(self, width: int) -> tuple[jax.Array, jax.Array, Any, Any]:
        scale = self.param("scale", self.scale_init, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
        return scale, bias, mean, self.variable("batch_stats", "var", jnp.ones, (width,))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last; statistics of each branch apart.

    In training the batch normalises itself, and the branch's running statistics move by a tenth;
    the running variance is the unbiased one. Those of other branches stay. The batch is the whole
    one, over however many devices it is cut ("synchronised").

    Attributes:
      names: of the branches, see `branches.branch_names`.
      groups: equal parts of the batch, in order, that normalise themselves apart ("local" where it
        is the number of devices); the first one's statistics move the running ones, as in torch's
        DataParallel.
      scale_init: initial values of the scales.
      epsilon: added to the variance.
      dtype: of the result; statistics are float32.
    """

    names: Sequence[str]
    groups: int = 1
    scale_init: Callable[..., jax.Array] = nn.initializers.ones
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool) -> jax.Array:
        """[.., C] -> [.., C], by the branch of that index."""
        # Every branch's arrays are there from the start, whichever the first clip takes.
        each = [_Statistics(self.scale_init, name=n)(x.shape[-1]) for n in self.names]
        scale, bias, mean, var = each[branch]
        if not train:
            factor = scale * jax.lax.rsqrt(var.value + self.epsilon)
            shift = bias - mean.value * factor
            return (x.astype(jnp.float32) * factor + shift).astype(self.dtype)
        if x.shape[0] % self.groups:
            raise ValueError(
                f"{self.groups} groups of batch statistics do not divide {x.shape[0]} rows; set "
                "the model's statistics_groups to a divisor of the batch"
            )
        rows = x.astype(jnp.float32).reshape(self.groups, -1, x.shape[-1])
        found = jnp.mean(rows, axis=1, keepdims=True)
        spread = jnp.mean(jnp.square(rows - found), axis=1, keepdims=True)
        if not self.is_initializing():
            count = rows.shape[1]
            unbiased = spread[0, 0] * (count / max(count - 1, 1))
            mean.value += _MOMENTUM * (jax.lax.stop_gradient(found[0, 0]) - mean.value)
            var.value += _MOMENTUM * (jax.lax.stop_gradient(unbiased) - var.value)
        y = (rows - found) * (scale * jax.lax.rsqrt(spread + self.epsilon)) + bias
        return y.reshape(x.shape).astype(self.dtype)


class LayerNorm(nn.Module):
    """Normalisation of every vector of the last axis, with scale and bias of each branch.

    Attributes:
      names: of the branches, see `branches.branch_names`.
      epsilon: added to the variance.
      dtype: of the result; statistics are float32.
    """

    names: Sequence[str]
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, branch: int) -> jax.Array:
        """[.., C] -> [.., C], by the branch of that index."""
        scale, bias = [_Scales(name=name)(x.shape[-1]) for name in self.names][branch]
        x = x.astype(jnp.float32)
        mean = jnp.mean(x, axis=-1, keepdims=True)
        var = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
        return ((x - mean) * jax.lax.rsqrt(var + self.epsilon) * scale + bias).astype(self.dtype)


class WeightAlteration(nn.Module):
    """x + a * x with a vector a [C] of each branch: the next layer's weights, altered.

    The vectors start as N(0, 1e-3), as the paper has it. (The release draws them so, and then draws
    them anew with its convolutions in TSM and SlowFast, with deviations of sqrt(2 / C).)

    Attributes:
      names: of the branches, see `branches.branch_names`.
    """

    names: Sequence[str]

    @nn.compact
    def __call__(self, x: jax.Array, branch: int) -> jax.Array:
        """[.., C] -> [.., C], by the branch of that index."""
        init = nn.initializers.normal(1e-3)
        each = [self.param(name, init, (x.shape[-1],)) for name in self.names]
        return x * (1 + each[branch]).astype(x.dtype)
