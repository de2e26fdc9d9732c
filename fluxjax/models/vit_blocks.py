"""Blocks of a plain vision transformer: LayerNorm, biases of queries and values only.

Source: MCG-NJU/VideoMAE, modeling_finetune.py, whose blocks AVION and others took over.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention import attention
from fluxjax.models.layers import DropPath, LayerNorm, LayerScale, Mlp, linear_init


class VitAttention(nn.Module):
    """Multi-head self-attention; a bias of the keys would change no softmax, so there is none."""

    num_heads: int
    qkv_bias: bool = True
    dtype: Any = jnp.float32
    backend: str = "auto"
    kernel_init: Any = linear_init

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
        """[B, N, C], valid [B, N] bool, a prefix, or None -> [B, N, C]."""
        b, n, width = x.shape
        dense = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        qkv = nn.Dense(3 * width, use_bias=False, name="qkv", **dense)(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        if self.qkv_bias:
            q = q + self.param("q_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
            v = v + self.param("v_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        q, k, v = (y.reshape(b, n, self.num_heads, -1) for y in (q, k, v))
        y = attention(q, k, v, valid=valid, backend=self.backend).reshape(x.shape)
        return nn.Dense(width, name="proj", **dense)(y)


class VitBlock(nn.Module):
    """Pre-norm residual block with drop path and, if `layer_scale`, a scale of each branch."""

    num_heads: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    layer_scale: float | None = None
    drop_path: float = 0.0
    gelu: str = "exact"
    epsilon: float = 1e-6
    dtype: Any = jnp.float32
    backend: str = "auto"
    kernel_init: Any = linear_init

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array | None, train: bool) -> jax.Array:
        """[B, N, C], valid [B, N] bool, a prefix, or None -> [B, N, C]."""
        y = LayerNorm(self.dtype, self.epsilon, name="norm1")(x)
        y = VitAttention(
            self.num_heads, self.qkv_bias, self.dtype, self.backend, self.kernel_init, name="attn"
        )(y, valid)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls1")(y), train)
        y = LayerNorm(self.dtype, self.epsilon, name="norm2")(x)
        init = {"kernel_init": self.kernel_init, "out_init": self.kernel_init}
        hidden = int(x.shape[-1] * self.mlp_ratio)
        y = Mlp(hidden, self.gelu, self.dtype, name="mlp", **init)(y)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls2")(y), train)
        # Whatever the parameters' sharding, activations are cut along the batch only.
        return nn.with_logical_constraint(x, ("batch", None, None))
