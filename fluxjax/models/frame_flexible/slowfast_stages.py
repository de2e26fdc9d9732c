"""Parts of SlowFast: stems, residual blocks of a pathway, and what the fast one tells the slow one.

Source: stem_helper_FFN.py and resnet_helper_FFN.py of BeSpontaneous/FFN-pytorch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.branches import Branched
from fluxjax.models.frame_flexible.convolutions import Conv, max_pool


def slow_frames(frames: int, alpha: int) -> np.ndarray:
    """Numbers of the fast pathway's frames that the slow one sees, [ceil(frames / alpha)] int64.

    They are spread evenly from the first to the last and rounded down, as in the release. It has
    floor(frames / alpha) of them, which is the same wherever it runs: at other frame numbers its
    fused pathways differ in length.
    """
    count = -(-frames // alpha)
    return np.arange(count) * (frames - 1) // max(count - 1, 1)


class Stem(Branched, kw_only=True):
    """Convolution of kernel (frames, 7, 7), norm and max pooling; a quarter of each side.

    Attributes:
      width: of the pathway.
      frames: that the kernel sees.

    The rest is of `Branched`.
    """

    width: int
    frames: int

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool = False) -> jax.Array:
        """[B, T, H, W, 3] -> [B, T, H/4, W/4, width]."""
        kernel, stride = (self.frames, 7, 7), (1, 2, 2)
        x = Conv(self.width, kernel, stride, dtype=self.dtype, name="conv")(x)
        return max_pool(nn.relu(self.batch_norm("bn", x, branch, train)))


class Fuse(Branched, kw_only=True):
    """Gives the slow pathway what the fast one has seen, by a convolution along time.

    Attributes:
      ratio: channels given, for each of the fast pathway's.
      frames: that the kernel sees.
      alpha: the fast pathway's frames for each of the slow one's.

    The rest is of `Branched`.
    """

    ratio: int
    frames: int
    alpha: int

    @nn.compact
    def __call__(
        self, slow: jax.Array, fast: jax.Array, branch: int, train: bool = False
    ) -> jax.Array:
        """[B, t, H, W, C] and [B, T, H, W, D] -> [B, t, H, W, C+ratio*D]; t = ceil(T/alpha)."""
        kernel, stride = (self.frames, 1, 1), (self.alpha, 1, 1)
        width = self.ratio * fast.shape[-1]
        x = Conv(width, kernel, stride, dtype=self.dtype, name="conv_f2s")(fast)
        x = nn.relu(self.batch_norm("bn", x, branch, train))
        return jnp.concatenate([slow, x], axis=-1)


class Block(Branched, kw_only=True):
    """Bottleneck: kernels (frames, 1, 1), (1, 3, 3) and 1 to four times `width`.

    Attributes:
      width: of the inner convolutions.
      frames: that the first kernel sees.
      stride: along height and width.

    The rest is of `Branched`.
    """

    width: int
    frames: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, branch: int, train: bool = False) -> jax.Array:
        """[B, T, H, W, C] -> [B, T, H/stride, W/stride, 4*width]."""
        y, stride = self.altered(x, branch), (1, self.stride, self.stride)
        y = Conv(self.width, (self.frames, 1, 1), dtype=self.dtype, name="a")(y)
        y = nn.relu(self.batch_norm("a_bn", y, branch, train))
        y = Conv(self.width, (1, 3, 3), stride, dtype=self.dtype, name="b")(y)
        y = nn.relu(self.batch_norm("b_bn", y, branch, train))
        y = Conv(4 * self.width, (1, 1, 1), dtype=self.dtype, name="c")(y)
        y = self.batch_norm("c_bn", y, branch, train, zero_scale=True)
        if self.stride > 1 or x.shape[-1] != 4 * self.width:
            x = Conv(4 * self.width, (1, 1, 1), stride, dtype=self.dtype, name="branch1")(x)
            x = self.batch_norm("branch1_bn", x, branch, train)
        return nn.relu(x + y)
