"""Convolutions of frames and clips: matrix products or 2-D ones wherever the kernel allows."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
    """A convolution with the padding and the orientation of torch's.

    A kernel of one row, column or frame makes no convolution along that axis: what is left is a
    matrix product or a convolution of fewer axes, which every backend does better.

    Attributes:
      features: channels of the result.
      size: of the kernel, (h, w) of frames [N, H, W, C] or (t, h, w) of clips [B, T, H, W, C].
      strides: of each axis.
      padding: zeros on either side of each axis; default: half the kernel's size.
      groups: of channels; as many as there are channels: depthwise.
      use_bias: whether a bias is added.
      dtype: of the computation; parameters are float32.
    """

    features: int
    size: Sequence[int]
    strides: Sequence[int] | int = 1
    padding: Sequence[int] | None = None
    groups: int = 1
    use_bias: bool = False
    kernel_init: Callable[..., jax.Array] = kaiming
    bias_init: Callable[..., jax.Array] = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, (T,) H, W, C] -> [N, (T',) H', W', features]."""
        axes = len(self.size)
        strides = (self.strides,) * axes if isinstance(self.strides, int) else tuple(self.strides)
        padding = [k // 2 for k in self.size] if self.padding is None else self.padding
        shape = (*self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = _convolve(x.astype(self.dtype), kernel, strides, padding, self.groups)
        if self.use_bias:
            x += self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        return x


def _convolve(x, kernel, strides, padding, groups):
    """Convolves over the axes on which the kernel has a size; the others are strided only."""
    size = kernel.shape[:-2]
    wide = [i for i, k in enumerate(size) if k > 1 or padding[i]]
    steps = tuple(slice(None, None, 1 if i in wide else s) for i, s in enumerate(strides))
    x = x[(slice(None), *steps)]
    if not wide and groups == 1:
        return x @ kernel.reshape(kernel.shape[-2:])
    shape = x.shape
    if len(size) == 3 and wide == [1, 2]:  # a frame at a time
        x, kernel = x.reshape(-1, *shape[2:]), kernel[0]
        y = _general(x, kernel, strides[1:], padding[1:], groups)
        return y.reshape(*shape[:2], *y.shape[1:])
    if len(size) == 3 and wide == [0]:  # a place at a time
        x = x.reshape(*shape[:2], -1, shape[-1])
        y = _general(x, kernel[:, 0], (strides[0], 1), (padding[0], 0), groups)
        return y.reshape(*y.shape[:2], *shape[2:4], y.shape[-1])
    done = [strides[i] if i in wide else 1 for i in range(len(size))]
    return _general(x, kernel, done, padding, groups)


def _general(x, kernel, strides, padding, groups):
    letters = "DHW"[-len(strides) :]
    layouts = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(
        x, kernel, tuple(strides), [(p, p) for p in padding],
        dimension_numbers=layouts, feature_group_count=groups,
    )  # fmt: skip


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 maximum of frames [N, H, W, C] with stride 2, nothing beyond the border."""
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
