"""UniFormer: convolutions first, attention over space and time last; plain and frame flexible.

Source: "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning"
(arXiv 2201.04676) and Transformer_Network/slowfast/models/uniformer_FFN.py of
BeSpontaneous/FFN-pytorch.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.network import FrameNetwork
from fluxjax.models.frame_flexible.uniformer_blocks import AttentionBlock, ConvBlock, PatchEmbed
from fluxjax.models.layers import check_headless, linear_init
from fluxjax.tokens.tokens import GREY_PIXELS

CHANNEL_ORDERS = ("RGB", "BGR")
CONV_STAGES = 2  # the rest attend


class UniFormer(FrameNetwork):
    """UniFormer classifier.

    Attributes:
      widths: of the stages.
      head_dim: width of an attention head; a stage of width C has C // head_dim.
      mlp_ratio: hidden width of MLPs over the stage's.
      drop_path: rate of the last block; it rises linearly from 0.
      channel_order: of the colours that the weights were trained on. Videos are RGB always; the
        weights that the release trained on Something-Something saw "BGR".
      attention: how it is computed, see `fluxjax.models.attention`.

    The rest is of `FrameNetwork`.
    """

    layers: tuple[int, ...] = (3, 4, 8, 3)
    widths: tuple[int, ...] = (64, 128, 320, 512)
    head_dim: int = 64
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    channel_order: str = "RGB"
    attention: str = "auto"

    pixels = GREY_PIXELS
    adapted: ClassVar[str] = "pos_embed"

    def __post_init__(self):
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(
                f"channel_order={self.channel_order!r} is unknown; choose one of {CHANNEL_ORDERS}"
            )
        for width in self.widths[CONV_STAGES:]:
            heads = width // self.head_dim
            if not heads or width % heads:
                raise ValueError(
                    f"head_dim={self.head_dim} gives {heads} heads for widths={self.widths}; set "
                    "one that the stages from the third on are multiples of"
                )
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
          video: [B, T, H, W, 3], RGB, float normalised by `pixels` or uint8.
          branch: frame number whose branch is taken; None: the nearest to T, of two the larger.
          train: drop path is active (needs rngs={"dropout": key}), norms use and keep the
            statistics of the batch (needs mutable=["batch_stats"]).
          return_features: also return what the classifier reads.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: as `FrameNetwork.normalized`.
        """
        x, branch = self.normalized(video, branch, train)
        x = x[..., ::-1] if self.channel_order == "BGR" else x
        rates = iter(np.linspace(0, self.drop_path, self.depth).tolist())
        for stage, depth in enumerate(self.layers):
            x = self._patch_embed(stage)(x, branch)
            for i in range(depth):
                x = self._block(stage, i, next(rates))(x, branch, train)
        x = self.batch_norm("norm", x, branch, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))
        if self.num_classes is None:
            check_headless(return_features)
            return x
        logits = self.classified(x, 0.0, train, linear_init)
        return (logits, x) if return_features else logits

    def layer_of(self, name: str) -> int:
        """See `FrameNetwork`; a patch embedding stands before the stage of its number."""
        match = re.match(r"(?:blocks|patch_embed)(\d+)(?:_(\d+))?", name)
        before = sum(self.layers[: int(match[1]) - 1])
        return before if match[2] is None else before + int(match[2]) + 1

    def _patch_embed(self, stage: int) -> PatchEmbed:
        """The first halves time, too: T frames become ceil(T / 2)."""
        first = {"kernel": (3, 4, 4), "stride": (2, 4, 4), "padding": (1, 0, 0)}
        return PatchEmbed(
            width=self.widths[stage], **(first if stage == 0 else {}), **self.shared,
            name=f"patch_embed{stage + 1}",
        )  # fmt: skip

    def _block(self, stage: int, number: int, drop_path: float) -> ConvBlock | AttentionBlock:
        fields = {
            "mlp_ratio": self.mlp_ratio, "drop_path": drop_path, "adapters": self.alters,
            "name": f"blocks{stage + 1}_{number}", **self.shared,
        }  # fmt: skip
        if stage < CONV_STAGES:
            return ConvBlock(**fields)
        heads = self.widths[stage] // self.head_dim
        return AttentionBlock(heads=heads, attention=self.attention, **fields)

    def fold_adapter(self, block: Mapping[str, Any], adapter: jax.Array) -> dict[str, Any]:
        """A block's parameters with the adapter [C] in the positions' depthwise convolution.

        The block begins with y + conv(y) for y = (1 + adapter) x. That is x + conv'(x), where the
        kernel is scaled by (1 + adapter) and has the adapter itself added at its centre.
        """
        positions = block[self.adapted]
        kernel = jnp.asarray(positions["kernel"]) * (1 + adapter)
        kernel = kernel.at[1, 1, 1].add(adapter)
        return {**block, self.adapted: {**positions, "kernel": kernel}}
