"""SlowFast: a slow pathway of few frames and a light fast one of many; plain and frame flexible.

Source: "SlowFast Networks for Video Recognition" (arXiv 1812.03982) and
3D_Network/slowfast/models/video_model_builder_FFN.py of BeSpontaneous/FFN-pytorch. Its evaluation
returns probabilities; here logits are returned always.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import check_frames, chosen_branch
from fluxjax.models.frame_flexible.slowfast_sizes import (
    FAST_KERNELS,
    FUSE_KERNEL,
    FUSE_RATIO,
    SLOW_KERNELS,
)
from fluxjax.models.frame_flexible.slowfast_stages import Block, Fuse, Stem, slow_frames
from fluxjax.tokens.tokens import GREY_PIXELS, PixelStats, normalize_pixels


class SlowFast(nn.Module):
    """SlowFast classifier.

    Attributes:
      num_classes: K.
      frames: the fast pathway's frame numbers that it is trained at, ascending, a branch each; one:
        the plain network.
      layers: blocks of the stages.
      width: of the slow pathway's stem.
      alpha: the fast pathway's frames for each of the slow one's.
      beta_inv: the slow pathway's channels for each of the fast one's.
      adapters: alter weights for each branch, where there are several.
      dropout: rate before the classifier.
      pixels: statistics that pixels are normalised by.
      dtype: of the computation; parameters and statistics stay float32.
    """

    num_classes: int = 400
    frames: tuple[int, ...] = (16, 32, 64)
    layers: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    alpha: int = 4
    beta_inv: int = 8
    adapters: bool = True
    dropout: float = 0.5
    pixels: PixelStats = GREY_PIXELS
    dtype: Any = jnp.float32

    adapted: ClassVar[str] = "a"  # the convolution of a block that reads the adapter's output

    def __post_init__(self):
        check_frames(self.frames)
        super().__post_init__()

    @property
    def altered(self) -> bool:
        """Whether there are adapters."""
        return self.adapters and len(self.frames) > 1

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        branch: int | None = None,
        return_features: bool = False,
        train: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video: [B, T, H, W, 3], the fast pathway's frames, float normalised by `pixels` or uint8;
            the slow pathway's are taken from them, see `slow_frames`.
          branch: number of the branch; None takes the nearest to T.
          return_features: also return what the classifier reads.
          train: dropout is active (needs rngs={"dropout": key}), norms use and keep the statistics
            of the batch (needs mutable=["batch_stats"]).

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: on another shape, or if there is no such branch.
        """
        if video.ndim != 5 or video.shape[-1] != 3:
            raise ValueError(f"clips are [B, T, H, W, 3], not {list(video.shape)}")
        branch = chosen_branch(branch, video.shape[1], self.frames)
        fast = normalize_pixels(video, self.pixels).astype(self.dtype)
        slow = fast[:, slow_frames(video.shape[1], self.alpha)]
        slow, fast = self._pathways(slow, fast, branch, train)
        pooled = [jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3)) for x in (slow, fast)]
        x = jnp.concatenate(pooled, axis=-1)
        head = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype,
            name="head",
        )  # fmt: skip
        logits = head(nn.Dropout(self.dropout)(x, deterministic=not train)).astype(jnp.float32)
        return (logits, x) if return_features else logits

    def _pathways(self, slow, fast, branch: int, train: bool):
        """Both pathways' frames [B, T, H, W, 3] -> their last features [B, T, h, w, C]."""
        shared = {"branches": len(self.frames), "dtype": self.dtype}
        narrow = self.width // self.beta_inv
        kernels = zip(SLOW_KERNELS, FAST_KERNELS, strict=True)
        for stage, (seen, seen_fast) in enumerate(list(kernels)[: len(self.layers) + 1]):
            if stage == 0:
                slow = Stem(width=self.width, frames=seen, **shared, name="s1_slow")(
                    slow, branch, train
                )
                fast = Stem(width=narrow, frames=seen_fast, **shared, name="s1_fast")(
                    fast, branch, train
                )
            else:
                slow = self._stage("slow", stage, slow, self.width, seen, branch, train)
                fast = self._stage("fast", stage, fast, narrow, seen_fast, branch, train)
            if stage < len(self.layers):
                fuse = Fuse(
                    ratio=FUSE_RATIO, frames=FUSE_KERNEL, alpha=self.alpha, **shared,
                    name=f"s{stage + 1}_fuse",
                )  # fmt: skip
                slow = fuse(slow, fast, branch, train)
        return slow, fast

    def _stage(self, pathway, stage: int, x, width: int, seen: int, branch: int, train: bool):
        """Stage 1, 2, .. of a pathway, x [B, T, H, W, C] -> [B, T, h, w, D]."""
        for i in range(self.layers[stage - 1]):
            x = Block(
                width=width * 2 ** (stage - 1), frames=seen, adapters=self.altered,
                stride=2 if stage > 1 and i == 0 else 1, branches=len(self.frames),
                dtype=self.dtype, name=f"s{stage + 1}_{pathway}_res{i}",
            )(x, branch, train)  # fmt: skip
        return x

    def fold_adapter(self, block: Mapping[str, Any], adapter: jax.Array) -> dict[str, Any]:
        """A block's parameters with (1 + adapter) [C] in the weights of its first convolution."""
        kernel = block[self.adapted]["kernel"] * (1 + adapter)[:, None]
        return {**block, self.adapted: {"kernel": kernel}}

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained: all are."""
        del path
        return False
