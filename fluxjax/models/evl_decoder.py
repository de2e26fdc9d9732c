"""EVL's decoder: one learned query through the features of a CLIP tower's last blocks.

Source: "Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550) and the official
repository OpenGVLab/efficient-video-recognition.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.clip import LayerFeatures
from fluxjax.models.layers import LayerNorm, gelu, uniform_init
from fluxjax.models.temporal_attention import TemporalCrossAttention
from fluxjax.tokens.positions import linear_matrix

_xavier = nn.initializers.xavier_uniform()


class TemporalConv(nn.Module):
    """Depthwise convolution over time, kernel 3, zeros beyond the ends."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, L, C] -> [B, T, L, C]; every token's place on its own, cls too."""
        width, init = x.shape[-1], uniform_init(3**-0.5)
        kernel = self.param("kernel", init, (3, width)).astype(self.dtype)
        bias = self.param("bias", init, (width,)).astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (0, 0), (0, 0)))
        frames = x.shape[1]
        return bias + sum(padded[:, i : i + frames] * kernel[i] for i in range(3))


class TemporalFeatures(nn.Module):
    """Frame features with what the neighbouring frames tell; the features given stay as they are.

    Attributes: see `Evl`.
    """

    num_frames: int
    grid: tuple[int, int]
    conv: bool = True
    position: bool = True
    cross_attention: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, layer: LayerFeatures, grid: tuple[int, int], places: jax.Array | None
    ) -> jax.Array:
        """Features [B, T, L, ..] -> [B, T, L, C]."""
        frames, width = layer.out.shape[1], layer.out.shape[-1]
        x = layer.out.astype(self.dtype)
        total = x
        if self.conv:
            total = total + TemporalConv(self.dtype, name="conv")(x)
        if self.position:
            table = self.param("position", nn.initializers.zeros, (self.num_frames, width))
            if frames != self.num_frames:
                exact = jax.lax.Precision.HIGHEST
                resample = linear_matrix(frames, frames, self.num_frames)
                table = jnp.matmul(resample, table, precision=exact)
            total = total + table[:, None].astype(self.dtype)
        if self.cross_attention:  # q and k may be absent without
            q, k = layer.q.astype(self.dtype), layer.k.astype(self.dtype)
            attend = TemporalCrossAttention(width, self.grid, name="cross_attention")
            total = total + attend(q, k, grid, places).astype(self.dtype)
        return total


class _Linear(nn.Module):
    """The parameters of a linear map, for products in another order than input times kernel."""

    features: int

    @nn.compact
    def __call__(self, width: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", _xavier, (width, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel.astype(dtype), bias.astype(dtype)


class QueryAttention(nn.Module):
    """Attention of one query a clip to all its tokens.

    With a single query, keys and values need not be computed: q . (y Wk) is (Wk q) . y, and the
    weighted sum of y Wv is (the weighted sum of y) Wv. This is the same function at 1/64 of the
    products for ViT-B/16. The keys' bias adds the same to all logits and has no effect; it is kept
    because the official weights have it.
    """

    features: int
    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Query [B, C], tokens [B, N, C] -> [B, C]."""
        width, heads, head_dim = x.shape[-1], self.num_heads, self.features // self.num_heads
        q = nn.Dense(self.features, kernel_init=_xavier, dtype=self.dtype, name="q")(x)
        key_kernel, _ = _Linear(self.features, name="k")(width, self.dtype)
        value_kernel, value_bias = _Linear(self.features, name="v")(width, self.dtype)
        q = q.reshape(-1, heads, head_dim) * head_dim**-0.5
        q = jnp.einsum("bhd,chd->bhc", q, key_kernel.reshape(width, heads, head_dim))
        logits = jnp.einsum("bhc,bnc->bhn", q, y, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        pooled = jnp.einsum("bhn,bnc->bhc", weights, y)
        out = jnp.einsum("bhc,chd->bhd", pooled, value_kernel.reshape(width, heads, head_dim))
        out = out.reshape(-1, self.features) + value_bias
        return nn.Dense(width, kernel_init=_xavier, dtype=self.dtype, name="out")(out)


class DecoderLayer(nn.Module):
    """The query attends to a layer's frame features, then an MLP."""

    temporal: dict[str, Any]
    qkv_width: int
    num_heads: int
    mlp_ratio: float
    mlp_dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: LayerFeatures,
        grid: tuple[int, int],
        places: jax.Array | None,
        train: bool,
    ) -> jax.Array:
        """Query [B, C], features [B, T, L, ..], places [B, K] int32 or None -> query [B, C]."""
        width = x.shape[-1]
        frames = TemporalFeatures(**self.temporal, dtype=self.dtype, name="temporal")
        y = frames(layer, grid, places).reshape(x.shape[0], -1, width)
        y = LayerNorm(dtype=self.dtype, name="norm3")(y)
        attend = QueryAttention(self.qkv_width, self.num_heads, self.dtype, name="attn")
        x = x + attend(LayerNorm(dtype=self.dtype, name="norm1")(x), y)
        small = nn.initializers.normal(1e-6)
        dense = {"kernel_init": _xavier, "bias_init": small, "dtype": self.dtype}
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = gelu(nn.Dense(round(width * self.mlp_ratio), name="fc1", **dense)(y), "quick")
        y = nn.Dropout(self.mlp_dropout, deterministic=not train)(y)
        return x + nn.Dense(width, name="fc2", **dense)(y)


class Decoder(nn.Module):
    """One learned query through the features of the last blocks, shallow ones first."""

    layers: int
    layer: dict[str, Any]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Sequence[LayerFeatures],
        grid: tuple[int, int],
        places: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Features [B, T, L, ..] of as many blocks as layers -> [B, C]."""
        batch, _, _, width = features[0].out.shape
        query = self.param("cls_token", nn.initializers.zeros, (width,)).astype(self.dtype)
        x = jnp.broadcast_to(query, (batch, width))
        for i in range(self.layers):
            layer = DecoderLayer(**self.layer, dtype=self.dtype, name=f"layers_{i}")
            x = layer(x, features[i], grid, places, train)
        return x
