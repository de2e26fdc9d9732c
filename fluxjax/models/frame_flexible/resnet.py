"""A residual network over the frames of clips, for any number of branches."""

import re
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.convolutions import max_pool
from fluxjax.models.frame_flexible.layers import ResidualBlock, conv
from fluxjax.models.frame_flexible.network import FrameNetwork
from fluxjax.models.layers import check_headless
from fluxjax.tokens.tokens import IMAGENET_PIXELS


class FrameResNet(FrameNetwork):
    """Stem, four stages of blocks, and a linear classifier whose logits are averaged over frames.

    Attributes:
      widths: of the inner convolutions of each stage's blocks.
      stem: width of the first convolution.
      dropout: rate before the classifier.

    The rest is of `FrameNetwork`.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    dropout: float = 0.5

    pixels = IMAGENET_PIXELS
    adapted: ClassVar[str] = "conv1"

    def expansion(self) -> int:
        """Channels that a block gives, for each of its inner ones."""
        raise NotImplementedError

    def block(self, first: bool, **fields: Any) -> ResidualBlock:
        """A block, the first of its stage or a later one."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int:
        """See `FrameNetwork`."""
        match = re.match(r"layer(\d+)_block(\d+)", name)
        return sum(self.layers[: int(match[1]) - 1]) + int(match[2]) + 1 if match else 0

    def segments(self, frames: int, train: bool) -> int:
        """Rows of frames that a block takes for one clip, of clips of `frames` frames."""
        del train
        return frames

    def __call__(
        self,
        video: jax.Array,
        branch: int | None = None,
        train: bool = False,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video: [B, T, H, W, 3], float normalised by `pixels` or uint8.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: dropout is active (needs rngs={"dropout": key}), norms use and keep the statistics
            of the batch (needs mutable=["batch_stats"]).
          return_features: also return what the classifier reads, averaged over frames.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: as `FrameNetwork.normalized`.
        """
        segments = self.segments(video.shape[1], train)
        logits, features = self.frame_logits(video, branch, segments, train)
        features = jnp.mean(features, axis=1)
        if logits is None:
            check_headless(return_features)
            return features
        logits = jnp.mean(logits, axis=1)
        return (logits, features) if return_features else logits

    @nn.compact
    def frame_logits(
        self, video: jax.Array, branch: int | None, segments: int, train: bool = False
    ) -> tuple[jax.Array | None, jax.Array]:
        """Logits [B, T, K] (None without classifier) and features [B, T, C] of frames, float32.

        Args:
          video, branch, train: as in a call.
          segments: rows of frames that blocks take for one clip: T, or more where clips leak into
            one another.
        """
        x, branch = self.normalized(video, branch, train)
        batch, frames = x.shape[:2]
        x = x.reshape(batch * frames, *x.shape[2:])
        x = conv("conv1", self.stem, 7, 2, dtype=self.dtype)(x)
        x = max_pool(nn.relu(self.batch_norm("bn1", x, branch, train)))
        for stage, (count, width) in enumerate(zip(self.layers, self.widths, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.block(
                    first=i == 0, width=width, stride=stride, adapters=self.alters, **self.shared,
                    shortcut=stride > 1 or x.shape[-1] != width * self.expansion(),
                    name=f"layer{stage + 1}_block{i}",
                )(x, branch, segments, train)  # fmt: skip
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2)).reshape(batch, frames, -1)
        if self.num_classes is None:
            return None, x
        return self.classified(x, self.dropout, train, nn.initializers.normal(1e-3)), x
