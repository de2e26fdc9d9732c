"""Networks that look at every frame with 2-D convolutions: what TSM and TEA have in common."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import (
    branch_names,
    branch_of,
    check_frames,
    is_flexible,
)
from fluxjax.models.frame_flexible.convs import Conv, max_pool
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.tokens.tokens import IMAGENET_PIXELS, normalize_pixels


class FrameNetwork(nn.Module):
    """A ResNet over frames whose blocks look along time, and the mean of the frames' logits.

    Attributes:
      num_classes: K; None or 0: no classifier, the result is what it would read.
      frames: frame numbers of the branches, ascending; () or one number: a plain network.
      alteration: whether each branch alters weights; not in a plain network.
      layers: blocks of each stage.
      planes: channels of each stage; a bottleneck's result has four times as many.
      stem: channels of the first convolution.
      dropout: rate before the classifier.
      statistics_groups: parts of a batch with batch statistics of their own, see `norms.BatchNorm`;
        1: the whole batch's ("synchronised"); as many as devices: each one's ("local").
      dtype: of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int | None = None
    frames: tuple[int, ...] | None = ()
    alteration: bool = True
    layers: tuple[int, ...] = (3, 4, 6, 3)
    planes: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    dropout: float = 0.5
    statistics_groups: int = 1
    dtype: Any = jnp.float32

    pixels = IMAGENET_PIXELS

    def __post_init__(self):
        check_frames(self.frames)
        super().__post_init__()

    @property
    def norm(self) -> dict[str, Any]:
        """Fields of the batch norms."""
        names = branch_names(self.frames)
        return {"names": names, "groups": self.statistics_groups, "dtype": self.dtype}

    @property
    def alters(self) -> bool:
        """Whether there is a weight alteration."""
        return self.alteration and is_flexible(self.frames)

    def span(self, frames: int, train: bool) -> int:
        """Frames in a row that the blocks take for a clip."""
        del train
        return frames

    def block(self, stage: int, number: int, stride: int) -> nn.Module:
        """Block `number` of stage 0 .. 3; called with (frames, branch, span, train)."""
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        branch: int | None = None,
        train: bool = False,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video: [B, T, H, W, 3], float normalised by `pixels`, or uint8.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: batch statistics and dropout (rngs={"dropout": key}) are active; needs
            mutable=["batch_stats"].
          return_features: also return the mean of the frames' features.

        Returns:
          logits [B, K] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: on a branch that the network does not have.
        """
        count, length = video.shape[:2]
        index = branch_of(self.frames, length, branch)
        x = normalize_pixels(video, self.pixels).reshape(-1, *video.shape[2:])
        x = Conv(self.stem, (7, 7), 2, dtype=self.dtype, name="conv1")(x)
        x = max_pool(nn.relu(BatchNorm(**self.norm, name="bn1")(x, index, train)))
        span = self.span(length, train)
        for stage, blocks in enumerate(self.layers):
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                x = self.block(stage, number, stride)(x, index, span, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        features = jnp.mean(x.reshape(count, length, -1), axis=1)
        if not self.num_classes:
            return (features, features) if return_features else features
        x = nn.Dropout(self.dropout, deterministic=not train)(x.astype(self.dtype))
        init = nn.initializers.normal(1e-3)
        x = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="head")(x)
        logits = jnp.mean(x.astype(jnp.float32).reshape(count, length, -1), axis=1)
        return (logits, features) if return_features else logits
