"""TEA: a Res2Net that weighs channels by motion and convolves along time; plain and frame flexible.

Source: "TEA: Temporal Excitation and Aggregation" (arXiv 2004.01398) and
ops/backbone/resnet_TEA_FFN.py of BeSpontaneous/FFN-pytorch. The release pools 7x7 maps, of frames
of 224 pixels; here maps of any size are averaged, which is the same there.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import Branched
from fluxjax.models.frame_flexible.layers import ResidualBlock, conv
from fluxjax.models.frame_flexible.resnet import FrameResNet

SCALE = 4  # groups of channels that a block convolves one after the other
REDUCTION = 16  # of channels where motion is measured


def inner_width(planes: int) -> int:
    """Channels of one of a block's groups: 26 where planes are 64."""
    return planes * 26 // 64


def _same_frame(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Kernel [3, C] that takes the frame itself."""
    del key
    return jnp.zeros(shape, dtype).at[1].set(1)


def _neighbours(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Kernel [3, C] that takes the next frame in half of the channels, the last one in the rest."""
    del key
    half = shape[1] // 2
    return jnp.zeros(shape, dtype).at[2, :half].set(1).at[0, half:].set(1)


class TemporalConv(nn.Module):
    """Depthwise convolution of three frames, the same for all branches.

    Attributes:
      init: initial kernel.
      dtype: of the computation.
    """

    init: Any = _same_frame
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, segments: int) -> jax.Array:
        """[N, H, W, C] -> the same, of clips of `segments` frames; zeros around a clip."""
        kernel = self.param("kernel", self.init, (3, x.shape[-1]), jnp.float32).astype(x.dtype)
        clips = x.reshape(-1, segments, *x.shape[1:])
        frames = jnp.pad(clips, ((0, 0), (1, 1), *[(0, 0)] * 3))
        y = frames[:, :-2] * kernel[0] + clips * kernel[1] + frames[:, 2:] * kernel[2]
        return y.reshape(x.shape)


class MotionExcitation(Branched):
    """Weighs channels by how much they change to the next frame."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, segments: int, train: bool = False) -> jax.Array:
        """[N, H, W, C] -> the same, of clips of `segments` frames."""
        width = x.shape[-1] // REDUCTION
        now = conv("conv1", width, 1, dtype=self.dtype)(x)
        now = self.batch_norm("bn1", now, branch, train)
        following = conv("conv2", width, 3, groups=width, dtype=self.dtype)(now)
        now, following = (y.reshape(-1, segments, *y.shape[1:]) for y in (now, following))
        change = following[:, 1:] - now[:, :-1]
        change = jnp.mean(change.astype(jnp.float32), axis=(2, 3), keepdims=True)
        change = jnp.pad(change, ((0, 0), (0, 1), *[(0, 0)] * 3))  # none after the last frame
        change = change.reshape(-1, 1, 1, width).astype(self.dtype)
        weight = conv("conv3", x.shape[-1], 1, dtype=self.dtype)(change)
        weight = self.batch_norm("bn3", weight, branch, train)
        return x + x * (nn.sigmoid(weight) - 0.5)


class Bottle2neck(ResidualBlock):
    """Res2Net's block: groups of channels, each convolved along time and space after the last.

    Attributes:
      first: of its stage: groups do not add up, and the last one is pooled.
    """

    first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, segments: int, train: bool = False) -> jax.Array:
        """[N, H, W, C] -> [N, H/stride, W/stride, 4*width], of clips of `segments` frames."""
        inner = inner_width(self.width)
        y = conv("conv1", SCALE * inner, 1, dtype=self.dtype)(self.altered(x, branch))
        y = nn.relu(self.batch_norm("bn1", y, branch, train))
        me = MotionExcitation(self.branches, self.statistics_groups, dtype=self.dtype, name="me")
        y = me(y, branch, segments, train)
        *groups, last = jnp.split(y, SCALE, axis=-1)
        outputs = []
        for i, group in enumerate(groups):
            if i > 0 and not self.first:
                group = group + outputs[-1]
            z = TemporalConv(dtype=self.dtype, name=f"shifts{i}")(group, segments)
            z = conv(f"convs{i}", inner, 3, self.stride, dtype=self.dtype)(z)
            outputs.append(nn.relu(self.batch_norm(f"bns{i}", z, branch, train)))
        last = TemporalConv(_neighbours, self.dtype, name=f"shifts{SCALE - 1}")(last, segments)
        if self.first:  # zeros outside count, as in PyTorch
            last = nn.avg_pool(last, (3, 3), (self.stride,) * 2, ((1, 1), (1, 1)))
        y = jnp.concatenate([*outputs, last], axis=-1)
        y = conv("conv3", 4 * self.width, 1, dtype=self.dtype)(y)
        y = self.batch_norm("bn3", y, branch, train)
        return nn.relu(y + self.residual(x, 4 * self.width, branch, train))


class Tea(FrameResNet):
    """TEA classifier, see `FrameResNet`.

    Attributes:
      adapters: the released networks have none; True alters the weights that read a block's input,
        as the paper's method does.
    """

    adapters: bool = False

    def expansion(self) -> int:
        """4."""
        return 4

    def block(self, first: bool, **fields: Any) -> ResidualBlock:
        """A block, the first of its stage or a later one."""
        return Bottle2neck(first=first, **fields)
