"""Convolutions of frames and of clips, channels last, padded as in PyTorch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.depthwise import depthwise
from fluxjax.models.layers import uniform_init

Sizes = Sequence[int]  # of height and width, or of time, height and width

kaiming_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# PyTorch's default: uniform within 1 / sqrt(fan-in).
default_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """Convolution: kernel [(t,) h, w, C_in / groups, features], bias [features].

    Attributes:
      features: channels of the result.
      kernel: its size; two numbers for frames, three for clips.
      stride: along each axis; None: 1.
      padding: zeros on both sides of each axis; None: kernel // 2.
      groups: of channels; as many as channels for a depthwise convolution.
      use_bias: add a bias; its initial values are PyTorch's, within 1 / sqrt(fan-in).
      kernel_init: initial values of the kernel.
      dtype: of the computation.
    """

    features: int
    kernel: Sizes
    stride: Sizes | None = None
    padding: Sizes | None = None
    groups: int = 1
    use_bias: bool = False
    kernel_init: Callable[..., jax.Array] = kaiming_init
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', features]; clips [B, T, H, W, C] likewise."""
        shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        stride = (1,) * len(self.kernel) if self.stride is None else self.stride
        padding = [k // 2 for k in self.kernel] if self.padding is None else self.padding
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = convolve(x, kernel, stride, padding, self.groups)
        if self.use_bias:
            init = uniform_init(math.prod(shape[:-1]) ** -0.5)
            x = x + self.param("bias", init, (self.features,)).astype(self.dtype)
        return x


def convolve(
    x: jax.Array, kernel: jax.Array, stride: Sizes, padding: Sizes, groups: int = 1
) -> jax.Array:
    """[N, .., C] with a kernel [.., C / groups, D] -> [N, .., D], over the axes between.

    Kernels of size one become matrix products, those that reach along space or time alone
    convolutions of two axes: XLA's programs for these are faster on a CPU, gradients above all.
    Depthwise ones: see `depthwise`.
    """
    size = kernel.shape[:-2]
    if math.prod(size) == 1 and groups == 1 and not any(padding):
        x = x[(slice(None), *(slice(None, None, step) for step in stride))]
        rows = x.reshape(-1, x.shape[-1]) @ kernel.reshape(kernel.shape[-2:])
        return rows.reshape(*x.shape[:-1], -1)
    if groups == kernel.shape[-1] > 1 and set(stride) == {1} and _same(size, padding):
        if len(size) == 3:
            return depthwise(x, kernel)
        return depthwise(x[:, None], kernel[None])[:, 0]
    if len(size) == 3 and size[0] == stride[0] == 1 and padding[0] == 0:
        batch, frames = x.shape[:2]
        x = x.reshape(batch * frames, *x.shape[2:])
        y = _convolve(x, kernel[0], stride[1:], padding[1:], groups)
        return y.reshape(batch, frames, *y.shape[1:])
    if len(size) == 3 and size[1:] == tuple(stride[1:]) == (1, 1) and not any(padding[1:]):
        batch, frames, height, width, channels = x.shape
        x = x.reshape(batch, frames, height * width, channels)
        y = _convolve(x, kernel[:, 0], (stride[0], 1), (padding[0], 0), groups)
        return y.reshape(batch, y.shape[1], height, width, -1)
    return _convolve(x, kernel, stride, padding, groups)


def _same(size: Sizes, padding: Sizes) -> bool:
    """Whether the result is as large as the input, around whose middle the kernel lies."""
    return all(k % 2 and p == k // 2 for k, p in zip(size, padding, strict=True))


def _convolve(x, kernel, stride, padding, groups):
    """A convolution over all axes between the first and the last."""
    axes = "DHW"[-len(stride) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return jax.lax.conv_general_dilated(
        x, kernel, stride, [(p, p) for p in padding],
        dimension_numbers=numbers, feature_group_count=groups,
    )  # fmt: skip


def max_pool(x: jax.Array) -> jax.Array:
    """3x3, stride 2: [.., H, W, C] -> [.., ceil(H/2), ceil(W/2), C]."""
    frames = x.reshape(-1, *x.shape[-3:])
    frames = nn.max_pool(frames, (3, 3), (2, 2), ((1, 1), (1, 1)))
    return frames.reshape(*x.shape[:-3], *frames.shape[1:])
