"""TSM: a ResNet whose blocks shift some channels along time.

Source: "TSM: Temporal Shift Module for Efficient Video Understanding" (arXiv 1811.08383), with the
branches of "Frame Flexible Network" (arXiv 2303.14817); BeSpontaneous/FFN-pytorch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.convs import Conv
from fluxjax.models.frame_flexible.frame_network import FrameNetwork
from fluxjax.models.frame_flexible.norms import BatchNorm, WeightAlteration
from fluxjax.models.frame_flexible.shift import SHIFTS, shift


class ShiftBlock(nn.Module):
    """A residual block that first shifts, then alters what its convolutions read.

    Attributes:
      planes: channels of the convolutions; the result has `expansion` times as many.
      stride: of the 3x3 convolution (the first one of a basic block).
      expansion: 4: a bottleneck of 1x1, 3x3 and 1x1; 1: a basic block of two 3x3.
      norm: fields of the batch norms.
      alters: whether there is a weight alteration.
      dtype: of the computation.
    """

    planes: int
    stride: int
    expansion: int
    norm: dict[str, Any]
    alters: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, span: int, train: bool) -> jax.Array:
        """[N, H, W, C] -> [N, H', W', planes * expansion]; `span` frames are a clip."""
        y = shift(x, span)
        if self.alters:
            y = WeightAlteration(self.norm["names"], name="adapter")(y, branch)
        if self.expansion == 1:
            steps = [(3, self.planes, self.stride), (3, self.planes, 1)]
        else:
            wide = self.planes * self.expansion
            steps = [(1, self.planes, 1), (3, self.planes, self.stride), (1, wide, 1)]
        for i, (side, features, stride) in enumerate(steps, 1):
            conv = Conv(features, (side, side), stride, dtype=self.dtype, name=f"conv{i}")
            y = BatchNorm(**self.norm, name=f"bn{i}")(conv(y), branch, train)
            y = nn.relu(y) if i < len(steps) else y
        return nn.relu(y + shortcut(x, y.shape[-1], self.stride, self.norm, branch, train))


def shortcut(
    x: jax.Array, features: int, stride: int, norm: dict[str, Any], branch: int, train: bool
) -> jax.Array:
    """What a block adds: x, or its projection where shape or stride differ. In a compact method."""
    if stride == 1 and x.shape[-1] == features:
        return x
    dtype = norm["dtype"]
    x = Conv(features, (1, 1), stride, dtype=dtype, name="downsample_conv")(x)
    return BatchNorm(**norm, name="downsample_bn")(x, branch, train)


class Tsm(FrameNetwork):
    """TSM of the depth of ResNet-50 or ResNet-18, plain or frame flexible.

    Attributes:
      bottleneck: blocks as in ResNet-50; False: basic ones, as in ResNet-18.
      shift: "clip" shifts within every clip. "leak": in training every branch shifts over as many
        frames as the last one has, so over several clips of fewer frames, as released (by mistake;
        the published numbers are of it); it needs batches whose frames are a multiple of that.
      The rest: see `FrameNetwork`.
    """

    bottleneck: bool = True
    shift: str = "clip"

    def __post_init__(self):
        if self.shift not in SHIFTS:
            raise ValueError(f"shift={self.shift!r} is unknown; choose one of {SHIFTS}")
        super().__post_init__()

    def span(self, frames: int, train: bool) -> int:
        """Frames in a row that are shifted as one clip."""
        return max(self.frames) if train and self.shift == "leak" and self.frames else frames

    def block(self, stage: int, number: int, stride: int) -> ShiftBlock:
        """A block of the network."""
        return ShiftBlock(
            self.planes[stage], stride, 4 if self.bottleneck else 1, self.norm, self.alters,
            self.dtype, name=f"layer{stage + 1}_{number}",
        )  # fmt: skip
