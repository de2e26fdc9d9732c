"""Blocks of UniFormer: convolutions in the early stages, attention over space and time later.

Source: "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning"
(arXiv 2201.04676), with the branches of "Frame Flexible Network" (arXiv 2303.14817).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention import attention
from fluxjax.models.frame_flexible.convs import Conv
from fluxjax.models.frame_flexible.norms import BatchNorm, LayerNorm, WeightAlteration
from fluxjax.models.layers import DropPath, gelu, uniform_init

trunc_normal = nn.initializers.truncated_normal(0.02, lower=-100.0, upper=100.0)


def torch_conv(x: jax.Array, features: int, size: Sequence[int], dtype: Any, **how) -> Conv:
    """A `Conv` with bias that starts as torch's does; x is what it will read."""
    fan_in = x.shape[-1] // how.get("groups", 1)
    for side in size:
        fan_in *= side
    init = uniform_init(fan_in**-0.5)
    return Conv(features, size, use_bias=True, kernel_init=init, bias_init=init, dtype=dtype, **how)


class PatchEmbed(nn.Module):
    """Merges patches by a convolution, and normalises each of them (epsilon 1e-5).

    Attributes:
      features: channels of the result.
      size, strides, padding: of the convolution, (t, h, w).
      names: of the branches.
    """

    features: int
    size: tuple[int, int, int]
    strides: tuple[int, int, int]
    padding: tuple[int, int, int]
    names: Sequence[str]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, branch: int) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H', W', features]."""
        how = {"strides": self.strides, "padding": self.padding, "name": "proj"}
        x = torch_conv(x, self.features, self.size, self.dtype, **how)(x)
        return LayerNorm(self.names, 1e-5, self.dtype, name="norm")(x, branch)


class _Block(nn.Module):
    """What both kinds of blocks begin with.

    Attributes:
      norm: fields of the batch norms: names, groups, dtype.
      alters: whether there is a weight alteration, of the whole stream.
      mlp_ratio: hidden channels of the MLP per channel.
      drop_path: rate of dropping a residual branch of a clip in training.
      head_dim: channels of an attention head.
    """

    norm: dict[str, Any]
    alters: bool
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    head_dim: int = 64

    def _positions(self, x: jax.Array, branch: int) -> jax.Array:
        """x, altered, and the position embedding that a convolution makes of it."""
        if self.alters:
            x = WeightAlteration(self.norm["names"], name="adapter")(x, branch)
        width = x.shape[-1]
        conv = torch_conv(x, width, (3, 3, 3), self.norm["dtype"], groups=width, name="pos_embed")
        return x + conv(x)

    def _drop(self, x: jax.Array, train: bool) -> jax.Array:
        return DropPath(self.drop_path)(x, train)


class ConvBlock(_Block):
    """A depthwise 5x5x5 convolution in the place of attention; batch norms."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> the same shape."""
        dtype, width = self.norm["dtype"], x.shape[-1]

        def conv(y, name, features, side=1, groups=1):
            how = {"groups": groups, "name": name}
            return torch_conv(y, features, (side,) * 3, dtype, **how)(y)

        x = self._positions(x, branch)
        y = BatchNorm(**self.norm, name="norm1")(x, branch, train)
        y = conv(conv(conv(y, "conv1", width), "attn", width, 5, width), "conv2", width)
        x = x + self._drop(y, train)
        y = BatchNorm(**self.norm, name="norm2")(x, branch, train)
        y = gelu(conv(y, "mlp_fc1", int(width * self.mlp_ratio)), "exact")
        return x + self._drop(conv(y, "mlp_fc2", width), train)


class AttentionBlock(_Block):
    """Joint attention over space and time; layer norms."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool) -> jax.Array:
        """[B, T, H, W, C] -> the same shape."""
        dtype, width, names = self.norm["dtype"], x.shape[-1], self.norm["names"]

        def linear(y, name, features):
            return nn.Dense(features, kernel_init=trunc_normal, dtype=dtype, name=name)(y)

        x = self._positions(x, branch)
        shape = x.shape
        x = x.reshape(shape[0], -1, width)
        y = linear(LayerNorm(names, dtype=dtype, name="norm1")(x, branch), "attn_qkv", 3 * width)
        y = y.reshape(*x.shape[:2], 3, width // self.head_dim, self.head_dim)
        y = attention(y[:, :, 0], y[:, :, 1], y[:, :, 2]).reshape(x.shape)
        x = x + self._drop(linear(y, "attn_proj", width), train)
        y = LayerNorm(names, dtype=dtype, name="norm2")(x, branch)
        y = gelu(linear(y, "mlp_fc1", int(width * self.mlp_ratio)), "exact")
        return (x + self._drop(linear(y, "mlp_fc2", width), train)).reshape(shape)
