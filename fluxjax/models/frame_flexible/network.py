"""What the frame flexible networks have in common: frame numbers, fields, what tasks ask."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.branches import BranchedLayers, branch_index, check_frames
from fluxjax.models.frame_flexible.conversion import export_branch
from fluxjax.tokens.tokens import PixelStats, normalize_pixels


class FrameNetwork(BranchedLayers, nn.Module):
    """A classifier of dense clips, with a branch for each frame number that it is trained at.

    Attributes:
      num_classes: K; None: no classifier, the result is what it would read.
      frames: the frame numbers it is trained at, ascending, a branch each; one: the plain network.
      layers: blocks of the stages.
      adapters: alter weights for each branch, where there are several.
      statistics_groups: equal parts of a batch, in order, with batch statistics of their own in
        training. 1: the whole batch's ("synchronised"); as many as devices: each one's ("local").
      dtype: of the computation; parameters and statistics stay float32.
    """

    num_classes: int | None = None
    frames: tuple[int, ...] = (4, 8, 16)
    layers: tuple[int, ...] = (3, 4, 6, 3)
    adapters: bool = True
    statistics_groups: int = 1
    dtype: Any = jnp.float32

    pixels: ClassVar[PixelStats]
    adapted: ClassVar[str]  # the layer of a block that reads the adapter's output

    def __post_init__(self):
        check_frames(self.frames)
        if self.statistics_groups < 1:
            raise ValueError(f"statistics_groups={self.statistics_groups} must be at least 1")
        super().__post_init__()

    @property
    def branches(self) -> int:
        """How many branches there are."""
        return len(self.frames)

    @property
    def alters(self) -> bool:
        """Whether there are adapters."""
        return self.adapters and self.branches > 1

    @property
    def shared(self) -> dict[str, Any]:
        """Fields of `Branched` of the network's parts."""
        return {
            "branches": self.branches,
            "statistics_groups": self.statistics_groups,
            "dtype": self.dtype,
        }

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(self.layers)

    def layer_id(self, path: Sequence[str]) -> int:
        """0 before the first block, 1 .. depth in blocks, depth + 1 behind the last."""
        behind = path[0].startswith(("head", "norm_"))
        return self.depth + 1 if behind else self.layer_of(path[0])

    def layer_of(self, name: str) -> int:
        """Number of the last block up to the part of that name; 0 before the first."""
        raise NotImplementedError

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained: all are."""
        del path
        return False

    def normalized(
        self, video: jax.Array, branch: int | None, train: bool
    ) -> tuple[jax.Array, int]:
        """Normalised pixels [B, T, H, W, 3] in the network's dtype, and the index of the branch.

        Raises:
          ValueError: on another shape, a branch that is not there, or a batch that the groups of
            statistics do not divide.
        """
        if video.ndim != 5 or video.shape[-1] != 3:
            raise ValueError(f"clips are [B, T, H, W, 3], not {list(video.shape)}")
        if train and video.shape[0] % self.statistics_groups:
            raise ValueError(
                f"statistics_groups={self.statistics_groups} do not divide a batch of "
                f"{video.shape[0]} clips; set a divisor of it"
            )
        index = branch_index(branch, video.shape[1], self.frames)
        return normalize_pixels(video, self.pixels).astype(self.dtype), index

    def classified(
        self, x: jax.Array, dropout: float, train: bool, init: Callable[..., jax.Array]
    ) -> jax.Array:
        """Features [.., C] -> logits [.., K] float32, behind dropout; in a compact method."""
        x = nn.Dropout(dropout)(x, deterministic=not train)
        head = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="head")
        return head(x).astype(jnp.float32)

    def export_branch(
        self, variables: Mapping[str, Any], frames: int
    ) -> tuple[nn.Module, dict[str, Any]]:
        """The plain network that clips of `frames` frames take, see `conversion.export_branch`."""
        return export_branch(self, variables, frames)

    def fold_adapter(self, block: Mapping[str, Any], adapter: jax.Array) -> dict[str, Any]:
        """A block's parameters with (1 + adapter) [C] in the convolution that reads its output."""
        kernel = jnp.asarray(block[self.adapted]["kernel"]) * (1 + adapter)[:, None]
        return {**block, self.adapted: {**block[self.adapted], "kernel": kernel}}
