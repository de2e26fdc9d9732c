"""UniFormer: convolutions first, attention over space and time last; plain and frame flexible.

Source: "UniFormer: Unified Transformer for Efficient Spatiotemporal Representation Learning"
(arXiv 2201.04676) and Transformer_Network/slowfast/models/uniformer_FFN.py of
BeSpontaneous/FFN-pytorch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.frame_flexible.branches import check_frames, chosen_branch, per_branch
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.models.frame_flexible.uniformer_blocks import AttentionBlock, ConvBlock, PatchEmbed
from fluxjax.models.layers import linear_init
from fluxjax.tokens.tokens import GREY_PIXELS, PixelStats, normalize_pixels

CHANNEL_ORDERS = ("RGB", "BGR")
CONV_STAGES = 2  # the rest attend


class UniFormer(nn.Module):
    """UniFormer classifier.

    Attributes:
      num_classes: K.
      frames: the frame numbers it is trained at, ascending, a branch each; one: the plain network.
      layers: blocks of the stages.
      widths: of the stages.
      head_dim: width of an attention head; a stage of width C has C // head_dim.
      mlp_ratio: hidden width of MLPs over the stage's.
      adapters: alter weights for each branch, where there are several.
      drop_path: rate of the last block; it rises linearly from 0.
      channel_order: of the colours that the weights were trained on. Videos are RGB always; the
        weights that the release trained on Something-Something saw "BGR".
      attention: how it is computed, see `fluxjax.models.attention`.
      pixels: statistics that pixels are normalised by.
      dtype: of the computation; parameters and statistics stay float32.
    """

    num_classes: int = 400
    frames: tuple[int, ...] = (4, 8, 16)
    layers: tuple[int, ...] = (3, 4, 8, 3)
    widths: tuple[int, ...] = (64, 128, 320, 512)
    head_dim: int = 64
    mlp_ratio: float = 4.0
    adapters: bool = True
    drop_path: float = 0.0
    channel_order: str = "RGB"
    attention: str = "auto"
    pixels: PixelStats = GREY_PIXELS
    dtype: Any = jnp.float32

    adapted: ClassVar[str] = "pos_embed"  # the layer of a block that reads the adapter's output

    def __post_init__(self):
        check_frames(self.frames)
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(
                f"channel_order={self.channel_order!r} is unknown; choose one of {CHANNEL_ORDERS}"
            )
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
          video: [B, T, H, W, 3], RGB, float normalised by `pixels` or uint8.
          branch: number of the branch; None takes the nearest to T.
          return_features: also return what the classifier reads.
          train: drop path is active (needs rngs={"dropout": key}), norms use and keep the
            statistics of the batch (needs mutable=["batch_stats"]).

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.

        Raises:
          ValueError: on another shape, or if there is no such branch.
        """
        if video.ndim != 5 or video.shape[-1] != 3:
            raise ValueError(f"clips are [B, T, H, W, 3], not {list(video.shape)}")
        branches, branch = len(self.frames), chosen_branch(branch, video.shape[1], self.frames)
        x = normalize_pixels(video, self.pixels).astype(self.dtype)
        x = x[..., ::-1] if self.channel_order == "BGR" else x
        rates = iter(np.linspace(0, self.drop_path, sum(self.layers)).tolist())
        for stage, depth in enumerate(self.layers):
            x = self._patch_embed(stage)(x, branch)
            for i in range(depth):
                x = self._block(stage, i, next(rates))(x, branch, train)

        def norm(name):
            return BatchNorm(dtype=self.dtype, name=name)

        x = per_branch(self, norm, "norm", x, branch, branches, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))
        head = nn.Dense(self.num_classes, kernel_init=linear_init, dtype=self.dtype, name="head")
        logits = head(x).astype(jnp.float32)
        return (logits, x) if return_features else logits

    def _patch_embed(self, stage: int) -> PatchEmbed:
        """The first halves time, too: T frames become ceil(T / 2)."""
        first = {"kernel": (3, 4, 4), "stride": (2, 4, 4), "padding": (1, 0, 0)}
        return PatchEmbed(
            self.widths[stage], **(first if stage == 0 else {}), branches=len(self.frames),
            dtype=self.dtype, name=f"patch_embed{stage + 1}",
        )  # fmt: skip

    def _block(self, stage: int, number: int, drop_path: float) -> ConvBlock | AttentionBlock:
        fields = {
            "mlp_ratio": self.mlp_ratio, "drop_path": drop_path, "branches": len(self.frames),
            "adapters": self.altered, "dtype": self.dtype, "name": f"blocks{stage + 1}_{number}",
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

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained: all are."""
        del path
        return False
