"""TEA: a Res2Net whose blocks excite channels that move and look along time group by group.

Source: "TEA: Temporal Excitation and Aggregation for Action Recognition" (arXiv 2004.01398), with
the branches of "Frame Flexible Network" (arXiv 2303.14817); BeSpontaneous/FFN-pytorch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.convs import Conv
from fluxjax.models.frame_flexible.frame_network import FrameNetwork
from fluxjax.models.frame_flexible.norms import BatchNorm, WeightAlteration
from fluxjax.models.frame_flexible.tsm import shortcut

_GROUPS = 4
_REDUCTION = 16


def group_width(planes: int) -> int:
    """Channels of each of a block's four groups: 26 of 64 planes."""
    return planes * 26 // 64


class TemporalConv(nn.Module):
    """A convolution of every channel along time, three frames wide, zeros beyond the clip.

    Attributes:
      ahead: starts as TSM's shift, half the channels from either side; else as the identity.
    """

    ahead: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, frames: int) -> jax.Array:
        """[B*T, H, W, C] -> the same shape."""
        kernel = self.param("kernel", self._init, (3, 1, x.shape[-1])).astype(x.dtype)[:, 0]
        clips = x.reshape(-1, frames, *x.shape[1:])
        padded = jnp.pad(clips, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        y = sum(padded[:, i : i + frames] * kernel[i] for i in range(3))
        return y.reshape(x.shape)

    def _init(self, key, shape, dtype=jnp.float32):
        del key
        kernel, half = np.zeros(shape), shape[-1] // 2
        if self.ahead:
            kernel[2, :, :half] = kernel[0, :, half:] = 1
        else:
            kernel[1] = 1
        return jnp.asarray(kernel, dtype)


class MotionExcitation(nn.Module):
    """Scales channels, between a half and one and a half, by how they change to the next frame.

    Attributes:
      norm: fields of the batch norms.
    """

    norm: dict[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, frames: int, train: bool) -> jax.Array:
        """[B*T, H, W, C] -> the same shape."""
        dtype, width = self.norm["dtype"], x.shape[-1]
        few = width // _REDUCTION
        now = Conv(few, (1, 1), dtype=dtype, name="conv1")(x)
        now = BatchNorm(**self.norm, name="bn1")(now, branch, train)
        then = Conv(few, (3, 3), groups=few, dtype=dtype, name="conv2")(now)
        now, then = (y.reshape(-1, frames, *y.shape[1:]) for y in (now, then))
        change = jnp.mean((then[:, 1:] - now[:, :-1]).astype(jnp.float32), axis=(2, 3))
        change = jnp.pad(change, ((0, 0), (0, 1), (0, 0))).reshape(-1, 1, 1, few)
        y = Conv(width, (1, 1), dtype=dtype, name="conv3")(change)
        y = BatchNorm(**self.norm, name="bn3")(y, branch, train)
        return x + x * (jax.nn.sigmoid(y) - 0.5)


class TeaBlock(nn.Module):
    """A bottleneck whose middle is four groups of channels, each fed by the one before.

    Attributes:
      planes: a quarter of the result's channels.
      stride: of the 3x3 convolutions.
      first: whether the block is the first of its stage, where groups do not feed each other.
      norm: fields of the batch norms.
      alters: whether there is a weight alteration.
      dtype: of the computation.
    """

    planes: int
    stride: int
    first: bool
    norm: dict[str, Any]
    alters: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, frames: int, train: bool) -> jax.Array:
        """[B*T, H, W, C] -> [B*T, H', W', 4 * planes]."""
        width = group_width(self.planes)
        y = x
        if self.alters:
            y = WeightAlteration(self.norm["names"], name="adapter")(y, branch)
        y = Conv(_GROUPS * width, (1, 1), dtype=self.dtype, name="conv1")(y)
        y = nn.relu(BatchNorm(**self.norm, name="bn1")(y, branch, train))
        y = MotionExcitation(self.norm, name="me")(y, branch, frames, train)
        *parts, last = jnp.split(y, _GROUPS, axis=-1)
        done = []
        for i, part in enumerate(parts):
            part = part if i == 0 or self.first else done[-1] + part
            part = TemporalConv(name=f"shifts_{i}")(part, frames)
            conv = Conv(width, (3, 3), self.stride, dtype=self.dtype, name=f"convs_{i}")
            done.append(nn.relu(BatchNorm(**self.norm, name=f"bns_{i}")(conv(part), branch, train)))
        last = TemporalConv(ahead=True, name=f"shifts_{_GROUPS - 1}")(last, frames)
        if self.first:  # zeros beyond the border count
            last = nn.avg_pool(last, (3, 3), (self.stride, self.stride), ((1, 1), (1, 1)))
        y = jnp.concatenate([*done, last], axis=-1)
        y = Conv(4 * self.planes, (1, 1), dtype=self.dtype, name="conv3")(y)
        y = BatchNorm(**self.norm, name="bn3")(y, branch, train)
        return nn.relu(y + shortcut(x, y.shape[-1], self.stride, self.norm, branch, train))


class Tea(FrameNetwork):
    """TEA of the depth of ResNet-50, plain or frame flexible.

    Attributes:
      alteration: the paper's weight alteration, before each block's first convolution; released
        weights have none.
      The rest: see `FrameNetwork`.
    """

    alteration: bool = False

    def block(self, stage: int, number: int, stride: int) -> TeaBlock:
        """A block of the network."""
        return TeaBlock(
            self.planes[stage], stride, number == 0, self.norm, self.alters, self.dtype,
            name=f"layer{stage + 1}_{number}",
        )  # fmt: skip
