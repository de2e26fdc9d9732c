"""Layers that the models share: norms, MLP, layer scale, drop path, attention pooling."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.attention import attention

# PyTorch's trunc_normal_(std=0.02) cuts at +-2, a hundred deviations out: a plain normal.
linear_init = nn.initializers.normal(0.02)


def uniform_init(bound: float) -> Callable[..., jax.Array]:
    """Initial values in [-bound, bound]: PyTorch's default, bound 1 / sqrt(fan-in)."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def check_headless(return_features: bool) -> None:
    """Raises ValueError where features are asked for beside the logits that a model has not."""
    if return_features:
        raise ValueError("a model without head returns only features; leave out return_features")


GELUS = ("tanh", "exact", "quick")


def gelu(x: jax.Array, kind: str) -> jax.Array:
    """GELU [..] -> [..]: "exact" (erf), "tanh" (approximated), CLIP's "quick" x * sigmoid(1.702 x).

    Raises:
      ValueError: on another kind.
    """
    if kind not in GELUS:
        raise ValueError(f"unknown GELU {kind!r}; choose one of {GELUS}")
    return {"tanh": _gelu_tanh, "exact": _gelu_exact, "quick": _gelu_quick}[kind](x)


# With the derivative written out, the gradient of an MLP takes 10 to 20 % less time on CPU than
# with the one that JAX derives from the formula.


@jax.custom_jvp
def _gelu_exact(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


@_gelu_exact.defjvp
def _gelu_exact_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    cdf = 0.5 * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))
    density = jnp.exp(-0.5 * x * x) * np.sqrt(0.5 / np.pi).astype(x.dtype)
    return x * cdf, (cdf + x * density) * tangent


@jax.custom_jvp
def _gelu_tanh(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=True)


@_gelu_tanh.defjvp
def _gelu_tanh_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    scale, cubic = np.sqrt(2 / np.pi).astype(x.dtype), np.asarray(0.044715, x.dtype)
    tanh = jnp.tanh(scale * (x + cubic * x * x * x))
    slope = 0.5 * x * (1 - tanh * tanh) * scale * (1 + 3 * cubic * x * x)
    return 0.5 * x * (1 + tanh), (0.5 * (1 + tanh) + slope) * tangent


def _gelu_quick(x: jax.Array) -> jax.Array:
    return x * jax.nn.sigmoid(np.asarray(1.702, x.dtype) * x)


def scale_channels(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x * scale over the last axis, on rows [everything else, C].

    The same numbers. But the gradient of `scale` then sums over one axis: over the tokens of a
    batch of one, [1, N, C], XLA's sum on CPU is twenty times slower.
    """
    return (rows_of(x) * scale).reshape(x.shape)


def rows_of(x: jax.Array) -> jax.Array:
    """[.., C] -> [everything else, C]."""
    return x.reshape(-1, x.shape[-1])


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6) * scale over the last axis; statistics in float32.

    The normalised value is cast to the compute dtype before the scale is applied, as in the
    official FluxViT.
    """

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C] in `dtype`."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        return scale_channels(x.astype(self.dtype), scale.astype(self.dtype))


class LayerNorm(nn.Module):
    """LayerNorm with eps 1e-5, biased variance computed about the mean, statistics in float32."""

    dtype: Any = jnp.float32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C] in `dtype`."""
        # use_fast_variance computes E[x^2] - E[x]^2, which cancels for features far from zero.
        norm = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, use_fast_variance=False)
        return norm(x)


class Affine(nn.Module):
    """Per-channel scale and bias: the reference's depthwise convolutions of size 1x1x1."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        rows = rows_of(x) * scale.astype(self.dtype) + bias.astype(self.dtype)
        return rows.reshape(x.shape)


class LayerScale(nn.Module):
    """gamma * x, computed in float32 and cast back; the identity if `init_value` is None or 0."""

    init_value: float | None = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C]."""
        if not self.init_value:  # the official models have no gamma then
            return x
        gamma = self.param("gamma", nn.initializers.constant(self.init_value), (x.shape[-1],))
        return scale_channels(x.astype(jnp.float32), gamma).astype(x.dtype)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples, scaling the survivors.

    Draws from the "dropout" stream when `train` and `rate` > 0.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, ..] -> [B, ..]."""
        if not train or (isinstance(self.rate, float) and self.rate == 0.0):
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(mask, x / jnp.asarray(keep, x.dtype), jnp.zeros((), x.dtype))


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    hidden: int
    gelu: str = "tanh"
    dtype: Any = jnp.float32
    kernel_init: Any = linear_init
    out_init: Any = linear_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C]."""
        shape = x.shape
        x = rows_of(x)  # see `scale_channels`; here for the gradients of the biases
        x = nn.Dense(self.hidden, kernel_init=self.kernel_init, dtype=self.dtype, name="fc1")(x)
        x = gelu(x, self.gelu)
        x = nn.Dense(shape[-1], kernel_init=self.out_init, dtype=self.dtype, name="fc2")(x)
        return x.reshape(shape)


class AttentionPool(nn.Module):
    """Pools tokens by cross-attention from their mean (the reference's `clip_projector`).

    Three LayerNorms for query, keys and values; no residual, no positions, no MLP.
    """

    features: int
    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, valid: jax.Array | None = None, return_attention: bool = False
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """[B, N, C] with `valid` [B, N] bool or None -> [B, features].

        With `return_attention` also the attention [B, N] float32, the mean over heads.
        """
        width = x.shape[-1]
        query = masked_mean(x, valid)[:, None].astype(x.dtype)

        def project(name, y):
            y = LayerNorm(dtype=self.dtype, name=f"norm_{name}")(y)
            y = nn.Dense(width, kernel_init=linear_init, dtype=self.dtype, name=name)(y)
            return y.reshape(*y.shape[:2], self.num_heads, width // self.num_heads)

        q, k, v = (project(name, y) for name, y in (("q", query), ("k", x), ("v", x)))
        # One query a clip: a flash kernel gains nothing here, and cuDNN wants longer sequences.
        pooled = attention(q, k, v, valid=valid, backend="xla").reshape(x.shape[0], width)
        out = nn.Dense(self.features, kernel_init=linear_init, dtype=self.dtype, name="proj")
        pooled = out(pooled)
        return (pooled, mean_attention(q, k, valid)) if return_attention else pooled


def mean_attention(q: jax.Array, k: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Attention of one query, q [B, 1, H, D] to k [B, N, H, D] -> [B, N] float32, mean of heads."""
    logits = jnp.einsum("bhd,bnhd->bhn", q[:, 0], k, preferred_element_type=jnp.float32)
    logits = logits * q.shape[-1] ** -0.5
    if valid is not None:
        logits = jnp.where(valid[:, None], logits, jnp.finfo(jnp.float32).min)
    return jnp.mean(jax.nn.softmax(logits, axis=-1), axis=1)


def masked_mean(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Mean over valid tokens in float32: [B, N, C] -> [B, C]."""
    x = x.astype(jnp.float32)
    if valid is None:
        return jnp.mean(x, axis=1)
    weight = valid.astype(jnp.float32)[..., None]
    return jnp.sum(x * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)


def unit(x: jax.Array, smallest: float = 1e-12) -> jax.Array:
    """Vectors of 2-norm 1, [.., E] -> [.., E] float32; norms below `smallest` count as that."""
    x = x.astype(jnp.float32)
    norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / (jnp.maximum(norm, smallest) if smallest else norm)
