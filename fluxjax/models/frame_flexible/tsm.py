"""TSM: a ResNet whose blocks shift channels along time; plain and frame flexible.

Source: "TSM: Temporal Shift Module" (arXiv 1811.08383) and ops/backbone/resnet_TSM_FFN.py of
BeSpontaneous/FFN-pytorch.
"""

from typing import Any

import flax.linen as nn
import jax

from fluxjax.models.frame_flexible.layers import ResidualBlock, conv, temporal_shift
from fluxjax.models.frame_flexible.resnet import FrameResNet

SHIFTS = ("clip", "leak")


class Bottleneck(ResidualBlock):
    """Convolutions 1x1, 3x3 and 1x1 to four times `width`."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, segments: int, train: bool = False) -> jax.Array:
        """[N, H, W, C] -> [N, H/stride, W/stride, 4*width]; see `temporal_shift` for `segments`."""
        y = self.altered(temporal_shift(x, segments), branch)
        y = conv("conv1", self.width, 1, dtype=self.dtype)(y)
        y = nn.relu(self.batch_norm("bn1", y, branch, train))
        y = conv("conv2", self.width, 3, self.stride, dtype=self.dtype)(y)
        y = nn.relu(self.batch_norm("bn2", y, branch, train))
        y = conv("conv3", 4 * self.width, 1, dtype=self.dtype)(y)
        y = self.batch_norm("bn3", y, branch, train)
        return nn.relu(y + self.residual(x, 4 * self.width, branch, train))


class BasicBlock(ResidualBlock):
    """Two convolutions 3x3."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, segments: int, train: bool = False) -> jax.Array:
        """[N, H, W, C] -> [N, H/stride, W/stride, width]; see `temporal_shift` for `segments`."""
        y = self.altered(temporal_shift(x, segments), branch)
        y = conv("conv1", self.width, 3, self.stride, dtype=self.dtype)(y)
        y = nn.relu(self.batch_norm("bn1", y, branch, train))
        y = conv("conv2", self.width, 3, dtype=self.dtype)(y)
        y = self.batch_norm("bn2", y, branch, train)
        return nn.relu(y + self.residual(x, self.width, branch, train))


class Tsm(FrameResNet):
    """TSM classifier.

    Attributes:
      bottleneck: blocks of ResNet-50 and deeper; False: of ResNet-18 and 34.
      shift: "clip" shifts within every clip. "leak" does as the released training code: in
        training clips of all branches shift in runs of the largest frame number, so that those of
        smaller ones leak into one another; each B*T must be a multiple of it.

    The rest is of `FrameResNet`.
    """

    bottleneck: bool = True
    shift: str = "clip"

    def __post_init__(self):
        if self.shift not in SHIFTS:
            raise ValueError(f"shift={self.shift!r} is unknown; choose one of {SHIFTS}")
        super().__post_init__()

    def expansion(self) -> int:
        """4 for bottlenecks, 1 for basic blocks."""
        return 4 if self.bottleneck else 1

    def block(self, first: bool, **fields: Any) -> ResidualBlock:
        """A block; all are alike."""
        del first
        return (Bottleneck if self.bottleneck else BasicBlock)(**fields)

    def segments(self, frames: int, train: bool) -> int:
        """The clip's own frames, or with the leak in training the largest frame number."""
        return max(self.frames) if train and self.shift == "leak" else frames
