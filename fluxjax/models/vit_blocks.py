"""Blocks of a plain vision transformer: LayerNorm, biases of queries and values only.

Source: MCG-NJU/VideoMAE, modeling_finetune.py, whose blocks AVION, UMT and others took over; tokens
merge in them as mlvlab/vid-TLDR does it in UMT's.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention import attention, attention_with_sharpness
from fluxjax.models.blocks import Merging, merged, merges
from fluxjax.models.layers import DropPath, LayerNorm, LayerScale, Mlp, linear_init
from fluxjax.tokens.merging import Merged


class VitAttention(nn.Module):
    """Multi-head self-attention; a bias of the keys would change no softmax, so there is none."""

    num_heads: int
    qkv_bias: bool = True
    dtype: Any = jnp.float32
    backend: str = "auto"
    kernel_init: Any = linear_init

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        valid: jax.Array | None,
        mass: jax.Array | None = None,
        return_sharpness: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """[B, N, C], valid [B, N] bool, a prefix, or None -> [B, N, C]; keys count `mass` [B, N].

        With `return_sharpness` also that of each token [B, N], see `attention_with_sharpness`.
        """
        b, n, width = x.shape
        dense = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        qkv = nn.Dense(3 * width, use_bias=False, name="qkv", **dense)(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        if self.qkv_bias:
            q = q + self.param("q_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
            v = v + self.param("v_bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        q, k, v = (y.reshape(b, n, self.num_heads, -1) for y in (q, k, v))
        proj = nn.Dense(width, name="proj", **dense)
        if return_sharpness:
            y, sharp = attention_with_sharpness(q, k, v, valid=valid, mass=mass)
            return proj(y.reshape(x.shape)), sharp
        y = attention(q, k, v, valid=valid, mass=mass, backend=self.backend)
        return proj(y.reshape(x.shape))


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
    def __call__(
        self, x: jax.Array, valid: jax.Array | None, train: bool, merging: Merging | None = None
    ) -> jax.Array | Merged:
        """[B, N, C], valid [B, N] bool, a prefix, or None -> [B, N, C]; with `merging` a `Merged`.

        Tokens merge between attention and MLP. What became of each is sown as intermediate
        "assignment".
        """
        y = LayerNorm(self.dtype, self.epsilon, name="norm1")(x)
        attend = VitAttention(
            self.num_heads, self.qkv_bias, self.dtype, self.backend, self.kernel_init, name="attn"
        )
        mass, sharp = None if merging is None else merging.mass, None
        if merges(merging, x.shape[1]):
            y, sharp = attend(y, valid, mass, return_sharpness=True)
        else:
            y = attend(y, valid, mass)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls1")(y), train)
        if merging is not None:
            left = merged(x, sharp, valid, merging)
            self.sow("intermediates", "assignment", left.assignment)
            x = left.values
        y = LayerNorm(self.dtype, self.epsilon, name="norm2")(x)
        init = {"kernel_init": self.kernel_init, "out_init": self.kernel_init}
        hidden = int(x.shape[-1] * self.mlp_ratio)
        y = Mlp(hidden, self.gelu, self.dtype, name="mlp", **init)(y)
        x = x + DropPath(self.drop_path)(LayerScale(self.layer_scale, name="ls2")(y), train)
        # Whatever the parameters' sharding, activations are cut along the batch only.
        x = nn.with_logical_constraint(x, ("batch", None, None))
        return x if merging is None else left.replace(values=x)
