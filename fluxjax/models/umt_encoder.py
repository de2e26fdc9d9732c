"""UMT's video encoder: a ViT without class token whose blocks can merge tokens.

Sources: "Unmasked Teacher: Towards Training-Efficient Video Foundation Models" (arXiv 2303.16058),
OpenGVLab/unmasked_teacher; "vid-TLDR" (arXiv 2403.13347), mlvlab/vid-TLDR, where tokens merge after
the attention of a block.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.blocks import Merging
from fluxjax.models.dense_clips import one_grid, pixel_tokens
from fluxjax.models.layers import uniform_init
from fluxjax.models.vit_blocks import VitBlock
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.merging import check_schedule
from fluxjax.tokens.positions import resample_table
from fluxjax.tokens.selection import group_dynamic_scores, rank_tokens, select
from fluxjax.tokens.tokens import IMAGENET_PIXELS, Tokens, check_patch, normalize_pixels
from fluxjax.tokens.tubelets import tubelets

EPSILON = 1e-6  # of the LayerNorms of blocks and encoders


class Encoded(NamedTuple):
    """What the encoder gives; B clips.

    Attributes:
      layers: after every block, [B, N, C] each; later blocks have fewer tokens where some merged.
      mass: [B, N] float32, how much was merged into each token of the last block; None: no merge.
    """

    layers: tuple[jax.Array, ...]
    mass: jax.Array | None


class UmtFields(nn.Module, kw_only=True):
    """What the encoder and the models around it declare under the same names.

    Attributes:
      width, depth, num_heads, mlp_ratio: of the transformer.
      patch: patch side in pixels.
      tubelet: frames that one token covers.
      grid: (T, H, W) in tokens of the position table, which other clips resample; None: sines and
        cosines of a token's flat number in its own clip.
      position_scale: factor on the fixed positions. 1 is the reference's; from random weights, 2 to
        4 lets a small model tell where and when things are many times sooner.
      learned_positions: the table is a parameter; needs `grid`.
      layer_scale: initial value of the layer scales; None or 0 leaves them out.
      drop_path: stochastic depth rate of the last block, rising linearly from 0.
      dtype: of the computation; parameters stay float32.
      attention: back end, see `fluxjax.models.attention`.
    """

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    tubelet: int = 1
    grid: tuple[int, int, int] | None = None
    position_scale: float = 1.0
    learned_positions: bool = False
    layer_scale: float | None = None
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    attention: str = "auto"

    pixels = IMAGENET_PIXELS
    one_grid = True
    merges = True

    def __post_init__(self):
        if self.learned_positions and self.grid is None:
            raise ValueError("learned_positions=True needs grid=(T, H, W), the size of the table")
        super().__post_init__()


class UmtEncoder(UmtFields, kw_only=True):
    """Embedding and blocks; no norm after the last block."""

    def setup(self):
        """Builds the layers."""
        bound = (self.tubelet * self.patch**2 * 3) ** -0.5  # PyTorch's default for convolutions
        uniform = uniform_init(bound)
        self.patch_embed = nn.Dense(
            self.width, kernel_init=uniform, bias_init=uniform, dtype=self.dtype
        )
        if self.learned_positions:
            self.position_table = self.param("position_table", lambda key: self._sincos(self.grid))
        self.blocks = [
            VitBlock(
                self.num_heads,
                self.mlp_ratio,
                layer_scale=self.layer_scale,
                drop_path=float(rate),
                epsilon=EPSILON,
                dtype=self.dtype,
                backend=self.attention,
                kernel_init=nn.initializers.xavier_uniform(),
            )
            for rate in np.linspace(0.0, self.drop_path, self.depth)
        ]

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        merge: Sequence[float] = (),
        visible: jax.Array | None = None,
        train: bool = False,
    ) -> Encoded:
        """Encodes clips.

        Args:
          video_or_tokens: [B, T, H, W, 3], float normalised by `pixels` or uint8; or `Tokens`
            holding pixels, all on one grid without padding.
          merge: how many of the remaining tokens (below 1: which share) the first blocks merge, at
            most half of them; see `fluxjax.tokens.merging`.
          visible: [B, K] int32, numbers of the tokens that are seen; None: all.
          train: drop paths are active (needs rngs={"dropout": key}).

        Returns:
          Features [B, N, C] in the compute dtype of every block, and the mass of the tokens.

        Raises:
          ValueError: on a wrong shape or merge schedule.
        """
        x = self.embed(video_or_tokens)
        if visible is not None:
            x = jnp.take_along_axis(x, visible[..., None], axis=1)
        mass, layers = None, []
        for block, r in zip(self.blocks, check_schedule(merge, self.depth), strict=True):
            if r or mass is not None:
                left = block(x, None, train, Merging(r, mass))
                x, mass = left.values, left.mass
            else:
                x = block(x, None, train)
            layers.append(x)
        return Encoded(tuple(layers), mass)

    def embed(self, video_or_tokens: jax.Array | Tokens) -> jax.Array:
        """Clips as in `__call__` -> tokens with positions [B, N, C]; N = T / tubelet * H * W."""
        tokens = self._without_positions(video_or_tokens)
        return tokens.values + self.positions(tokens.static_grid).astype(self.dtype)

    def changing(self, video_or_tokens: jax.Array | Tokens, budget: int) -> jax.Array:
        """The tokens that change most over a clip, as FluxViT selects them, for `visible`.

        Args:
          video_or_tokens: as in `__call__`.
          budget: K or a little more, the same number from every temporal group.

        Returns:
          [B, K] int32, ascending.
        """
        tokens = jax.lax.stop_gradient(self._without_positions(video_or_tokens))
        kept = select(tokens, rank_tokens(tokens, group_dynamic_scores(tokens)), budget).position
        _, rows, columns = tokens.static_grid
        return (kept[..., 0] * rows + kept[..., 1]) * columns + kept[..., 2]

    def _without_positions(self, video_or_tokens: jax.Array | Tokens) -> Tokens:
        cubes = self._cubes(video_or_tokens)
        pixels = normalize_pixels(cubes.values, self.pixels).astype(self.dtype)
        return cubes.replace(values=self.patch_embed(pixels))

    def token_grid(self, video_or_tokens: jax.Array | Tokens) -> tuple[int, int, int]:
        """The grid (T, H, W) in tokens of clips as in `__call__`, such as [B, T, H, W, 3].

        Raises:
          ValueError: if it is not known while tracing.
        """
        return self._cubes(video_or_tokens).static_grid

    def _cubes(self, video_or_tokens: jax.Array | Tokens) -> Tokens:
        """Pixels [B, N, D] of tubelets."""
        tokens = pixel_tokens(video_or_tokens, self.patch)
        check_patch(tokens, self.patch)
        one_grid(tokens, "UMT")
        return tubelets(tokens, self.tubelet)

    def positions(self, grid: tuple[int, int, int]) -> jax.Array:
        """Codes [N, C] float32 of the tokens of a clip on a grid (T, H, W)."""
        if self.grid is None:
            return jnp.asarray(self.position_scale * flat_sincos(self.width, math.prod(grid)))
        table = self.position_table if self.learned_positions else self._sincos(self.grid)
        if tuple(grid) != tuple(self.grid):
            table = resample_table(table, grid, grid)
        return table.reshape(-1, self.width)

    def _sincos(self, grid: tuple[int, int, int]) -> jax.Array:
        codes = self.position_scale * flat_sincos(self.width, math.prod(grid))
        return jnp.asarray(codes.reshape(*grid, self.width))


def encoder_fields(model: UmtFields) -> dict[str, Any]:
    """The fields that an encoder has of the model around it."""
    names = {field.name for field in dataclasses.fields(UmtFields)}
    return {name: getattr(model, name) for name in names - {"parent", "name"}}


def encoder_layer_id(path: Sequence[str], depth: int) -> int:
    """0 for an encoder's embedding, i + 1 for its block i, depth + 1 for what is outside of it."""
    if path[0] != "encoder":
        return depth + 1
    if path[1].startswith("blocks_"):
        return int(path[1].removeprefix("blocks_")) + 1
    return 0
