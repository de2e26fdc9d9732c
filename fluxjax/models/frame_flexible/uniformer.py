"""UniFormer: convolutions in the first two stages, attention over space and time in the others.

Source: "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning"
(arXiv 2201.04676), with the branches of "Frame Flexible Network" (arXiv 2303.14817);
Sense-X/UniFormer, BeSpontaneous/FFN-pytorch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.branches import (
    branch_names,
    branch_of,
    check_frames,
    is_flexible,
)
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.models.frame_flexible.slowfast import VIDEO_PIXELS
from fluxjax.models.frame_flexible.uniformer_blocks import (
    AttentionBlock,
    ConvBlock,
    PatchEmbed,
    trunc_normal,
)
from fluxjax.tokens.tokens import normalize_pixels


class UniFormer(nn.Module):
    """UniFormer, plain or frame flexible.

    Attributes:
      num_classes: K; None or 0: no classifier, the result is what it would read.
      frames: frame numbers of the branches, ascending; () or one number: a plain network.
      alteration: whether each branch alters weights; not in a plain network.
      layers: blocks of each stage.
      widths: channels of each stage.
      head_dim: channels of an attention head.
      mlp_ratio: hidden channels of the MLPs per channel.
      drop_path: rate of dropping residual branches in the last block; rises from 0.
      statistics_groups: see `frame_network.FrameNetwork`.
      dtype: of the computation; parameters, statistics and logits are float32.
    """

    num_classes: int | None = None
    frames: tuple[int, ...] | None = ()
    alteration: bool = True
    layers: tuple[int, ...] = (3, 4, 8, 3)
    widths: tuple[int, ...] = (64, 128, 320, 512)
    head_dim: int = 64
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    statistics_groups: int = 1
    dtype: Any = jnp.float32

    pixels = VIDEO_PIXELS

    def __post_init__(self):
        check_frames(self.frames)
        for width in self.widths[2:]:
            if width % self.head_dim:
                raise ValueError(f"head_dim={self.head_dim} does not divide widths={self.widths}")
        super().__post_init__()

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
          video: [B, T, H, W, 3], float normalised by `pixels`, or uint8; RGB.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: batch statistics and drop path (rngs={"dropout": key}) are active; needs
            mutable=["batch_stats"].
          return_features: also return what the classifier reads.

        Returns:
          logits [B, K] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: on a branch that the network does not have.
        """
        index = branch_of(self.frames, video.shape[1], branch)
        x = normalize_pixels(video, self.pixels)
        norm = {
            "names": branch_names(self.frames),
            "groups": self.statistics_groups,
            "dtype": self.dtype,
        }
        x = self._stages(x, norm, index, train)
        x = BatchNorm(**norm, name="norm")(x, index, train)
        features = jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))
        if not self.num_classes:
            return (features, features) if return_features else features
        head = nn.Dense(
            self.num_classes, kernel_init=trunc_normal, dtype=self.dtype, name="head"
        )  # fmt: skip
        logits = head(features.astype(self.dtype)).astype(jnp.float32)
        return (logits, features) if return_features else logits

    def _stages(self, x: jax.Array, norm: dict[str, Any], index: int, train: bool) -> jax.Array:
        """[B, T, H, W, 3] -> [B, T / 2, H / 32, W / 32, C]."""
        rates = iter(np.linspace(0.0, self.drop_path, sum(self.layers)).tolist())
        alters = self.alteration and is_flexible(self.frames)
        for stage, (blocks, width) in enumerate(zip(self.layers, self.widths, strict=True), 1):
            how = (
                ((3, 4, 4), (2, 4, 4), (1, 0, 0)) if stage == 1 else ((1, 2, 2),) * 2 + ((0,) * 3,)
            )
            embed = PatchEmbed(
                width, *how, norm["names"], self.dtype, name=f"patch_embed{stage}"
            )  # fmt: skip
            x = embed(x, index)
            kind = ConvBlock if stage <= 2 else AttentionBlock
            for number in range(blocks):
                block = kind(
                    norm, alters, self.mlp_ratio, next(rates), self.head_dim,
                    name=f"blocks{stage}_{number}",
                )  # fmt: skip
                x = block(x, index, train)
        return x
