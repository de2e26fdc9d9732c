"""Convolutions and pooling over frames, rows and columns, channels last, padded as in PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.layers import uniform_init

Sizes = tuple[int, int, int]  # of time, height and width

kaiming_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# PyTorch's default: uniform within 1 / sqrt(fan-in).
default_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv3d(nn.Module):
    """Convolution of clips: kernel [t, h, w, C_in / groups, features], bias [features].

    Attributes:
      features: channels of the result.
      kernel: its size.
      stride: along each axis.
      padding: zeros on both sides of each axis; None: kernel // 2.
      groups: of channels; as many as channels for a depthwise convolution.
      use_bias: add a bias; its initial values are PyTorch's, within 1 / sqrt(fan-in).
      kernel_init: initial values of the kernel.
      dtype: of the computation.
    """

    features: int
    kernel: Sizes
    stride: Sizes = (1, 1, 1)
    padding: Sizes | None = None
    groups: int = 1
    use_bias: bool = False
    kernel_init: Callable[..., jax.Array] = kaiming_init
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, H, W, C] -> [B, T', H', W', features]."""
        shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        padding = tuple(k // 2 for k in self.kernel) if self.padding is None else self.padding
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = convolve(x, kernel, self.stride, padding, self.groups)
        if self.use_bias:
            init = uniform_init(math.prod(shape[:-1]) ** -0.5)
            x = x + self.param("bias", init, (self.features,)).astype(self.dtype)
        return x


def convolve(
    x: jax.Array, kernel: jax.Array, stride: Sizes, padding: Sizes, groups: int = 1
) -> jax.Array:
    """[B, T, H, W, C] with a kernel [t, h, w, C / groups, D] -> [B, T', H', W', D].

    Kernels that reach along space or time alone become convolutions of two axes, and those of size
    one matrix products: XLA has faster programs for these than for three axes.
    """
    batch, frames, height, width, channels = x.shape
    size = kernel.shape[:3]
    if size == (1, 1, 1) and groups == 1 and not any(padding):
        x = x[:, :: stride[0], :: stride[1], :: stride[2]]
        return x @ kernel[0, 0, 0]
    if size[0] == stride[0] == 1 and padding[0] == 0:
        x = x.reshape(batch * frames, height, width, channels)
        y = _convolve(x, kernel[0], stride[1:], padding[1:], groups)
        return y.reshape(batch, frames, *y.shape[1:])
    if size[1:] == stride[1:] == (1, 1) and padding[1:] == (0, 0):
        x = x.reshape(batch, frames, height * width, channels)
        y = _convolve(x, kernel[:, 0], (stride[0], 1), (padding[0], 0), groups)
        return y.reshape(batch, y.shape[1], height, width, -1)
    return _convolve(x, kernel, stride, padding, groups)


def _convolve(x, kernel, stride, padding, groups):
    """A convolution over all axes between the first and the last."""
    axes = "DHW"[-len(stride) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(
        x, kernel, stride, [(p, p) for p in padding],
        dimension_numbers=numbers, feature_group_count=groups,
    )  # fmt: skip


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 a frame, stride 2: [B, T, H, W, C] -> [B, T, ceil(H/2), ceil(W/2), C]."""
    frames = x.reshape(-1, *x.shape[2:])
    frames = nn.max_pool(frames, (3, 3), (2, 2), ((1, 1), (1, 1)))
    return frames.reshape(*x.shape[:2], *frames.shape[1:])
