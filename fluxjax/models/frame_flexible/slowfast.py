"""SlowFast: a slow pathway of few frames and a light fast one of many; plain and frame flexible.

Source: "SlowFast Networks for Video Recognition" (arXiv 1812.03982) and
3D_Network/slowfast/models/video_model_builder_FFN.py of BeSpontaneous/FFN-pytorch. Its evaluation
returns probabilities; here logits are returned always.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.network import FrameNetwork
from fluxjax.models.frame_flexible.slowfast_sizes import (
    FAST_KERNELS,
    FUSE_KERNEL,
    FUSE_RATIO,
    SLOW_KERNELS,
)
from fluxjax.models.frame_flexible.slowfast_stages import Block, Fuse, Stem, slow_frames
from fluxjax.models.layers import check_headless
from fluxjax.tokens.tokens import GREY_PIXELS


class SlowFast(FrameNetwork):
    """SlowFast classifier.

    Attributes:
      frames: the fast pathway's frame numbers that it is trained at; see `FrameNetwork`.
      width: of the slow pathway's stem.
      alpha: the fast pathway's frames for each of the slow one's.
      beta_inv: the slow pathway's channels for each of the fast one's.
      dropout: rate before the classifier.

    The rest is of `FrameNetwork`.
    """

    frames: tuple[int, ...] = (16, 32, 64)
    width: int = 64
    alpha: int = 4
    beta_inv: int = 8
    dropout: float = 0.5

    pixels = GREY_PIXELS
    adapted: ClassVar[str] = "a"

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
          video: [B, T, H, W, 3], the fast pathway's frames, float normalised by `pixels` or uint8;
            the slow pathway's are taken from them, see `slow_frames`.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: dropout is active (needs rngs={"dropout": key}), norms use and keep the statistics
            of the batch (needs mutable=["batch_stats"]).
          return_features: also return what the classifier reads.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: as `FrameNetwork.normalized`.
        """
        fast, branch = self.normalized(video, branch, train)
        slow = fast[:, slow_frames(video.shape[1], self.alpha)]
        slow, fast = self._pathways(slow, fast, branch, train)
        pooled = [jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3)) for x in (slow, fast)]
        x = jnp.concatenate(pooled, axis=-1)
        if self.num_classes is None:
            check_headless(return_features)
            return x
        logits = self.classified(x, self.dropout, train, nn.initializers.normal(0.01))
        return (logits, x) if return_features else logits

    def layer_of(self, name: str) -> int:
        """See `FrameNetwork`; stages are counted from 2."""
        match = re.match(r"s(\d+)_(?:fuse|\w+_res(\d+))", name)
        if match is None:
            return 0
        stage = int(match[1]) - 2
        if match[2] is None:  # what fuses stands behind the stage of its number
            return sum(self.layers[: stage + 1])
        return sum(self.layers[:stage]) + int(match[2]) + 1

    def undecayed(self, path: Sequence[str]) -> bool:
        """Norms are not decayed; the classifier's bias is, other than in the 2D networks."""
        return path[-1] in ("scale", "bias") and path[0] != "head"

    def _pathways(self, slow, fast, branch: int, train: bool):
        """Both pathways' frames [B, T, H, W, 3] -> their last features [B, T, h, w, C]."""
        shared = self.shared
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
                width=width * 2 ** (stage - 1), frames=seen, adapters=self.alters, **self.shared,
                stride=2 if stage > 1 and i == 0 else 1, name=f"s{stage + 1}_{pathway}_res{i}",
            )(x, branch, train)  # fmt: skip
        return x
