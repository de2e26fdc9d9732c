"""VideoMAE's encoder: a vision transformer over tubelets that sees only the tokens it is given.

Sources: "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training" (arXiv 2203.12602, MCG-NJU/VideoMAE) and AVION's faster rewrite of it (arXiv
2309.16669, zhaoyue-zephyrus/AVION).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.blocks import remat_block
from fluxjax.models.layers import LayerNorm, linear_init
from fluxjax.models.vit_blocks import VitBlock
from fluxjax.tokens.flat_positions import flat_positions
from fluxjax.tokens.tokens import (
    IMAGENET_PIXELS,
    PixelStats,
    Tokens,
    check_patch,
    gather,
    normalize_pixels,
)
from fluxjax.tokens.tubelets import tubelets


class VideoMaeFields(nn.Module, kw_only=True):
    """What the encoder and the models around it declare under the same names.

    Attributes:
      width, depth, num_heads, mlp_ratio: of the transformer.
      grid: (H, W) in patches of the fixed positions; clips on other grids get resampled ones. None:
        positions are made for each clip's own grid, as if the model had been built for it.
      num_frames: T of the fixed positions, in frames.
      position_scale: factor on the fixed positions. 1 is the reference's; from random weights, 2 to
        4 lets a small model tell where and when things are many times sooner.
      tubelet: frames of a token.
      patch: patch side in pixels.
      conv_patch: the official weights hold the patch embedding as a Conv3d (VideoMAE), not as a
        Linear (AVION): another shape of the same numbers in `to_torch`.
      qkv_bias: queries and values have a bias.
      layer_scale: initial value of the layer scales; None or 0 leaves them out.
      drop_path: stochastic depth rate of the last block, rising linearly from 0.
      gelu: "exact", as in all released models, "tanh" or "quick".
      epsilon: of the LayerNorms of encoder and blocks.
      head_epsilon: of the LayerNorm before a head.
      pixels: (mean, std) that uint8 pixels are normalised by.
      dtype: of the computation; parameters stay float32.
      attention: back end, see `fluxjax.models.attention`.
      remat: what blocks compute again in the backward pass, see `fluxjax.models.blocks`.
    """

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    grid: tuple[int, int] | None = (14, 14)
    num_frames: int = 16
    position_scale: float = 1.0
    tubelet: int = 2
    patch: int = 16
    conv_patch: bool = False
    qkv_bias: bool = True
    layer_scale: float | None = None
    drop_path: float = 0.0
    gelu: str = "exact"
    epsilon: float = 1e-6
    head_epsilon: float = 1e-6
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET_PIXELS
    dtype: Any = jnp.float32
    attention: str = "auto"
    remat: str = "none"

    def __post_init__(self):
        self.pixels = PixelStats(*map(tuple, self.pixels))  # a stored model's are plain
        if self.width % self.num_heads:
            raise ValueError(f"width={self.width} must be a multiple of num_heads={self.num_heads}")
        super().__post_init__()

    @property
    def position_grid(self) -> tuple[int, int, int] | None:
        """(T, H, W) of the fixed positions, in tubelets; None: each clip's own."""
        return None if self.grid is None else (-(-self.num_frames // self.tubelet), *self.grid)

    def positions(self, channels: int, cubes: Tokens) -> jax.Array:
        """Fixed positions of all tubelets of clips, [B or 1, N, channels] in the compute dtype."""
        codes = flat_positions(channels, cubes, self.position_grid)
        return (self.position_scale * codes).astype(self.dtype)

    def cubes(self, video_or_tokens: jax.Array | Tokens, slots: int | None = None) -> Tokens:
        """Clips [B, T, H, W, 3] or patches of their frames as tubelets [B, N, D] of pixels."""
        tokens = video_or_tokens
        if not isinstance(tokens, Tokens):
            tokens = Tokens.from_video(tokens, self.patch)
        check_patch(tokens, self.patch)
        return tubelets(tokens, self.tubelet, slots)

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer-wise learning-rate decay, 0 .. depth + 1.

        0 for the patch embedding, i + 1 for block i of the encoder, the last for everything else.
        """
        if path[:2] == ("encoder", "patch_embed"):
            return 0
        if path[0] == "encoder" and path[1].startswith("blocks_"):
            return int(path[1].removeprefix("blocks_")) + 1
        return self.depth + 1


def encoder_fields(model: VideoMaeFields) -> dict[str, Any]:
    """The fields that an encoder has of the model around it."""
    names = {field.name for field in dataclasses.fields(VideoMaeFields)} - {"parent", "name"}
    return {name: getattr(model, name) for name in names}


def vit_blocks(
    model: VideoMaeFields, depth: int, num_heads: int, drop_path: float, kernel_init: Any
) -> list[VitBlock]:
    """`depth` blocks, to be called in a `setup`; drop path rises linearly from 0."""
    block = remat_block(model.remat, VitBlock)
    return [
        block(
            num_heads,
            model.mlp_ratio,
            model.qkv_bias,
            model.layer_scale,
            float(rate),
            model.gelu,
            model.epsilon,
            model.dtype,
            model.attention,
            kernel_init,
        )
        for rate in np.linspace(0.0, drop_path, depth)
    ]


class Encoder(VideoMaeFields, kw_only=True):
    """Embedding, fixed positions, blocks and, if `norm`, a LayerNorm of every token.

    Attributes:
      norm: the final LayerNorm.
      kernel_init: initial values of all matrices.
    """

    norm: bool = True
    kernel_init: Any = linear_init

    def setup(self):
        """Builds the layers."""
        self.patch_embed = nn.Dense(self.width, kernel_init=self.kernel_init, dtype=self.dtype)
        self.blocks = vit_blocks(self, self.depth, self.num_heads, self.drop_path, self.kernel_init)
        if self.norm:
            self.final_norm = LayerNorm(self.dtype, self.epsilon)

    def __call__(self, tokens: Tokens, train: bool = False) -> jax.Array:
        """Features [B, K, C] of tubelets that `embed` made, all of a clip's or a selection."""
        x, valid = tokens.values, tokens.valid if tokens.padded else None
        for block in self.blocks:
            x = block(x, valid, train)
        return self.final_norm(x) if self.norm else x

    def embed(
        self, cubes: Tokens, index: jax.Array | None = None, valid: jax.Array | None = None
    ) -> Tokens:
        """Tubelets of pixels [B, N, D] -> tokens with positions [B, N, C].

        Args:
          cubes: all of each clip's.
          index: [B, K] int32, the ones to embed; nothing is computed of the others. None: all.
          valid: [B, K] bool, a prefix: which entries of `index` are tokens; None: all.
        """
        codes = self.codes(cubes)
        if index is not None:
            codes = jnp.broadcast_to(codes, (index.shape[0], *codes.shape[1:]))
            codes = jnp.take_along_axis(codes, index[..., None], axis=1)
            whole = valid is None
            cubes = gather(cubes, index, jnp.ones(index.shape, bool) if whole else valid)
            cubes = cubes.replace(padded=not whole)
        embedded = self.embed_pixels(cubes)
        return embedded.replace(values=embedded.values + codes)

    def embed_pixels(self, cubes: Tokens) -> Tokens:
        """Tubelets of pixels [B, N, D] -> tokens without positions [B, N, C]."""
        pixels = normalize_pixels(cubes.values, self.pixels).astype(self.dtype)
        return cubes.replace(values=self.patch_embed(pixels))

    def codes(self, cubes: Tokens) -> jax.Array:
        """Positions of all tubelets of clips, [B or 1, N, C]."""
        return self.positions(self.width, cubes)
