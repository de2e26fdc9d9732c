"""Layers that the two-dimensional networks share: convolutions, temporal shift, residual blocks.

Frames of all clips are rows, [B*T, H, W, C], the frames of a clip one after the other.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import Branched
from fluxjax.models.frame_flexible.convolutions import Conv


def conv(name: str, width: int, kernel: int, stride: int = 1, **options: Any) -> Conv:
    """A convolution of frames without bias."""
    return Conv(width, (kernel, kernel), (stride, stride), name=name, **options)


def temporal_shift(x: jax.Array, segments: int) -> jax.Array:
    """Moves an eighth of the channels to the frame before, another to the frame after.

    Source: TSM (arXiv 1811.08383): channels [0, C//8) take the next frame's, [C//8, 2*(C//8)) the
    frame's before; zeros where there is none.

    Args:
      x: [N, H, W, C].
      segments: frames that belong together; N is a multiple of it.

    Raises:
      ValueError: if N is no multiple of it.
    """
    rows, height, width, channels = x.shape
    if rows % segments:
        raise ValueError(
            f"{rows} frames are no multiple of {segments}; with shift='leak' the clips of a batch "
            "must together fill clips of the largest frame number"
        )
    x = x.reshape(-1, segments, height, width, channels)
    fold = channels // 8
    pad = ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0))
    later = jnp.pad(x[:, 1:, ..., :fold], pad)
    earlier = jnp.pad(x[:, :-1, ..., fold : 2 * fold], (pad[0], (1, 0), *pad[2:]))
    shifted = jnp.concatenate([later, earlier, x[..., 2 * fold :]], axis=-1)
    return shifted.reshape(rows, height, width, channels)


class ResidualBlock(Branched, kw_only=True):
    """What residual blocks share.

    Attributes:
      width: of the inner convolutions.
      stride: of the block.
      shortcut: project the input for the sum.

    The rest is of `Branched`.
    """

    width: int
    stride: int = 1
    shortcut: bool = False

    def residual(self, x: jax.Array, width: int, branch: int, train: bool) -> jax.Array:
        """[N, H, W, C] itself, or projected to `width` channels at the block's stride."""
        if not self.shortcut:
            return x
        x = conv("downsample_conv", width, 1, self.stride, dtype=self.dtype)(x)
        return self.batch_norm("downsample_bn", x, branch, train)
