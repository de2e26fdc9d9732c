"""A residual network over the frames of clips, for any number of branches."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import check_frames, chosen_branch
from fluxjax.models.frame_flexible.layers import BranchedBlock, branch_norm, conv, max_pool
from fluxjax.tokens.tokens import IMAGENET_PIXELS, PixelStats, normalize_pixels


class BranchedResNet(nn.Module):
    """Stem, four stages of blocks, and a linear classifier whose logits are averaged over frames.

    Attributes:
      num_classes: K.
      frames: the frame numbers it is trained at, ascending, a branch each; one: the plain network.
      layers: blocks of the stages.
      widths: of the inner convolutions of each stage's blocks.
      stem: width of the first convolution.
      adapters: alter weights for each branch, where there are several.
      dropout: rate before the classifier.
      pixels: statistics that pixels are normalised by.
      dtype: of the computation; parameters and statistics stay float32.
    """

    num_classes: int = 400
    frames: tuple[int, ...] = (4, 8, 16)
    layers: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    adapters: bool = True
    dropout: float = 0.5
    pixels: PixelStats = IMAGENET_PIXELS
    dtype: Any = jnp.float32

    adapted: ClassVar[str] = "conv1"  # the convolution of a block that reads the adapter's output

    def __post_init__(self):
        check_frames(self.frames)
        super().__post_init__()

    @property
    def altered(self) -> bool:
        """Whether there are adapters."""
        return self.adapters and len(self.frames) > 1

    def expansion(self) -> int:
        """Channels that a block gives, for each of its inner ones."""
        raise NotImplementedError

    def block(self, first: bool, **fields: Any) -> BranchedBlock:
        """A block, the first of its stage or a later one."""
        raise NotImplementedError

    def segments(self, frames: int, train: bool) -> int:
        """Rows of frames that a block takes for one clip, of clips of `frames` frames."""
        del train
        return frames

    def __call__(
        self,
        video: jax.Array,
        branch: int | None = None,
        return_features: bool = False,
        train: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video: [B, T, H, W, 3], float normalised by `pixels` or uint8.
          branch: number of the branch; None takes the nearest to T.
          return_features: also return what the classifier reads, averaged over frames.
          train: dropout is active (needs rngs={"dropout": key}), norms use and keep the statistics
            of the batch (needs mutable=["batch_stats"]).

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: on another shape, or if there is no such branch.
        """
        if video.ndim != 5 or video.shape[-1] != 3:
            raise ValueError(f"clips are [B, T, H, W, 3], not {list(video.shape)}")
        segments = self.segments(video.shape[1], train)
        logits, features = self.frame_logits(video, branch, segments, train)
        logits, features = jnp.mean(logits, axis=1), jnp.mean(features, axis=1)
        return (logits, features) if return_features else logits

    @nn.compact
    def frame_logits(
        self, video: jax.Array, branch: int | None, segments: int, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Logits [B, T, num_classes] and features [B, T, C] of every frame, float32.

        Args:
          video, branch, train: as in a call.
          segments: rows of frames that blocks take for one clip: T, or more where clips leak into
            one another.
        """
        batch, frames = video.shape[:2]
        branches, branch = len(self.frames), chosen_branch(branch, frames, self.frames)
        x = normalize_pixels(video, self.pixels).astype(self.dtype)
        x = x.reshape(batch * frames, *x.shape[2:])
        x = conv("conv1", self.stem, 7, 2, dtype=self.dtype)(x)
        x = max_pool(nn.relu(branch_norm(self, "bn1", x, branch, branches, train)))
        for stage, (count, width) in enumerate(zip(self.layers, self.widths, strict=True)):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                x = self.block(
                    first=i == 0, width=width, stride=stride, branches=branches,
                    adapters=self.altered, dtype=self.dtype,
                    shortcut=stride > 1 or x.shape[-1] != width * self.expansion(),
                    name=f"layer{stage + 1}_block{i}",
                )(x, branch, segments, train)  # fmt: skip
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2)).reshape(batch, frames, -1)
        head = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.normal(1e-3), dtype=self.dtype,
            name="head",
        )  # fmt: skip
        logits = head(nn.Dropout(self.dropout)(x, deterministic=not train))
        return logits.astype(jnp.float32), x

    def fold_adapter(self, block: Mapping[str, Any], adapter: jax.Array) -> dict[str, Any]:
        """A block's parameters with (1 + adapter) [C] in the convolution that reads its output."""
        kernel = block[self.adapted]["kernel"] * (1 + adapter)[:, None]
        return {**block, self.adapted: {"kernel": kernel}}
