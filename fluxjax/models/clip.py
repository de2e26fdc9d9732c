"""CLIP's blocks, and its image tower: a ViT over single frames with the features of every block.

Source: "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020)
and the official repository openai/CLIP; per-block features as EVL uses them (arXiv 2208.03550,
OpenGVLab/efficient-video-recognition).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention import attention, causal_attention
from fluxjax.models.dense_clips import one_grid, take_places
from fluxjax.models.layers import DropPath, LayerNorm, LayerScale, Mlp, uniform_init
from fluxjax.tokens.positions import resample_table, sincos_3d
from fluxjax.tokens.selection import group_dynamic_scores, top_places
from fluxjax.tokens.tokens import CLIP_PIXELS, PixelStats, Tokens, check_patch, normalize_pixels

_xavier = nn.initializers.xavier_uniform()


class LayerFeatures(NamedTuple):
    """What one block gives; L tokens a frame, cls first.

    The leading axes are [F] frames inside the tower and [B, T] outside of it.
    """

    out: jax.Array  # [.., L, C], the residual stream after the block
    q: jax.Array  # [.., L, H, D] queries with bias, not scaled
    k: jax.Array  # [.., L, H, D] keys with bias


class TowerFeatures(NamedTuple):
    """Features of the frames of clips.

    Attributes:
      layers: of every block, [B, T, L, ..] each, shallow blocks first.
      places: [B, K] int32, ascending, the places row * width + column whose tokens were kept, the
        same ones in every frame, or [B, T, K]; None where all are there, in this order.
    """

    layers: tuple[LayerFeatures, ...]
    places: jax.Array | None


class ClipAttention(nn.Module):
    """Multi-head self-attention with biases; `causal`: to earlier tokens only."""

    num_heads: int
    dtype: Any = jnp.float32
    backend: str = "auto"
    out_init: Any = _xavier
    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[F, L, C] -> the attention's output [F, L, C], and q and k [F, L, H, D]."""
        width = x.shape[-1]

        def project(name):
            y = nn.Dense(width, kernel_init=_xavier, dtype=self.dtype, name=name)(x)
            return y.reshape(*x.shape[:2], self.num_heads, width // self.num_heads)

        q, k, v = (project(name) for name in "qkv")
        if self.causal:
            y = causal_attention(q, k, v).reshape(x.shape)
        else:
            y = attention(q, k, v, backend=self.backend).reshape(x.shape)
        y = nn.Dense(width, kernel_init=self.out_init, dtype=self.dtype, name="out")(y)
        return y, q, k


class ClipBlock(nn.Module):
    """Pre-norm residual block, with layer scale and drop path where they are asked for."""

    num_heads: int
    mlp_ratio: float = 4.0
    gelu: str = "quick"
    depth: int = 12
    dtype: Any = jnp.float32
    backend: str = "auto"
    epsilon: float = 1e-5
    causal: bool = False
    layer_scale: float | None = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> LayerFeatures:
        """[F, L, C] -> features [F, L, ..]; `train` draws dropped paths from "dropout"."""
        # The residual stream of 2 * depth branches starts at the variance of one.
        out_init = nn.initializers.variance_scaling(0.5 / self.depth, "fan_avg", "uniform")
        common = {"dtype": self.dtype, "out_init": out_init}

        def add(x, y, scale):
            y = LayerScale(self.layer_scale, name=scale)(y)
            return x + DropPath(self.drop_path)(y, train)

        y = LayerNorm(dtype=self.dtype, epsilon=self.epsilon, name="norm1")(x)
        attend = ClipAttention(
            self.num_heads, backend=self.backend, causal=self.causal, name="attn", **common
        )
        y, q, k = attend(y)
        x = add(x, y, "ls1")
        y = LayerNorm(dtype=self.dtype, epsilon=self.epsilon, name="norm2")(x)
        hidden = round(x.shape[-1] * self.mlp_ratio)
        y = Mlp(hidden, gelu=self.gelu, kernel_init=_xavier, name="mlp", **common)(y)
        return LayerFeatures(add(x, y, "ls2"), q, k)


class TowerFields(nn.Module, kw_only=True):
    """What a tower and the models around it declare under the same names.

    Attributes:
      width, depth, num_heads, mlp_ratio: of the transformer.
      grid: (H, W) in patches of the position table; other grids are resampled at run time.
      patch: patch side in pixels.
      ln_pre: LayerNorm before the first block.
      patch_bias: the patch embedding has a bias: EVL's has, CLIP's has not.
      position_scale: factor on a sin-cos table as initial positions; None: CLIP's small random
        ones, from which a small tower hardly learns where things are.
      pixels: (mean, std) that uint8 pixels are normalised by.
      dtype: of the computation; parameters stay float32.
      attention: back end, see `fluxjax.models.attention`.
    """

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    grid: tuple[int, int] = (14, 14)
    patch: int = 16
    ln_pre: bool = True
    patch_bias: bool = False
    position_scale: float | None = None
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = CLIP_PIXELS
    dtype: Any = jnp.float32
    attention: str = "auto"

    def __post_init__(self):
        self.pixels = PixelStats(*map(tuple, self.pixels))  # a stored model's are plain
        super().__post_init__()


class TowerBase(TowerFields, kw_only=True):
    """The embedding of frames, and the names of blocks; no final norm, no projection.

    Attributes:
      gelu: "quick" as OpenAI trained, "exact" as most of open_clip's.
      epsilon: of all LayerNorms.
    """

    gelu: str = "quick"
    epsilon: float = 1e-5

    def setup(self):
        """Builds the layers."""
        scale = nn.initializers.normal(self.width**-0.5)
        bound = (self.patch**2 * 3) ** -0.5  # PyTorch's default for convolutions
        self.patch_embed = nn.Dense(
            self.width, use_bias=self.patch_bias, kernel_init=uniform_init(bound), dtype=self.dtype
        )
        self.cls_token = self.param("cls_token", scale, (self.width,))
        self.cls_position = self.param("cls_position", scale, (self.width,))
        shape = (1, *self.grid, self.width)
        table = scale if self.position_scale is None else self._sincos
        self.position_table = self.param("position_table", table, shape)
        if self.ln_pre:
            self.norm_pre = LayerNorm(dtype=self.dtype, epsilon=self.epsilon)
        self.blocks = [self._block() for _ in range(self.depth)]

    def _block(self, block: type[ClipBlock] = ClipBlock, **fields: Any) -> ClipBlock:
        return block(
            self.num_heads, self.mlp_ratio, self.gelu, self.depth, self.dtype, self.attention,
            self.epsilon, **fields,
        )  # fmt: skip

    def _sincos(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del key
        return jnp.asarray(self.position_scale * sincos_3d(shape[-1], shape[:3]))

    def _embedded(self, tokens: Tokens) -> jax.Array:
        """Pixels [B, N, patch*patch*3] -> [B, N, C] in the compute dtype, without positions."""
        check_patch(tokens, self.patch)
        pixels = normalize_pixels(tokens.values, self.pixels)
        return self.patch_embed(pixels.astype(self.dtype))

    def _positions(self, grid: tuple[int, int]) -> jax.Array:
        """[H*W, C] in the compute dtype."""
        table = self.position_table
        if grid != table.shape[1:3]:
            table = resample_table(table, (1, *grid), (1, *grid))
        return table.reshape(-1, self.width).astype(self.dtype)

    def _with_cls(self, x: jax.Array) -> jax.Array:
        """Tokens with positions [F, K, C] -> what the first block reads, [F, 1+K, C]."""
        cls = (self.cls_token + self.cls_position).astype(self.dtype)
        cls = jnp.broadcast_to(cls, (x.shape[0], 1, self.width))
        x = jnp.concatenate([cls, x], axis=1)
        return self.norm_pre(x) if self.ln_pre else x


class ClipTower(TowerBase, kw_only=True):
    """CLIP's image tower over the frames of clips."""

    def __call__(
        self, tokens: Tokens, budget: int | None = None, places: jax.Array | None = None
    ) -> TowerFeatures:
        """Features of every frame.

        Args:
          tokens: pixels [B, N, patch*patch*3] of clips on one static grid, without padding.
          budget: tokens kept a clip before the first block, cls tokens not counted: the places
            that change most over the clip, the same in all frames (see `top_places`). None: all.
          places: [B, T, K] int32, the tokens kept of each frame; instead of a budget.

        Returns:
          Features [B, T, 1+K, ..] in the compute dtype of every block.

        Raises:
          ValueError: on padded tokens or another patch size.
        """
        grid = one_grid(tokens, "the CLIP image tower")
        x = self._embedded(tokens)
        if budget is not None and budget < x.shape[1]:
            scores = group_dynamic_scores(tokens.replace(values=jax.lax.stop_gradient(x)))
            places = top_places(scores, grid, budget)
        x = x.reshape(x.shape[0], grid[0], -1, self.width) + self._positions(grid[1:])
        frames = take_places(x, places)
        batch, length = frames.shape[:2]
        layers = self._blocks(frames.reshape(batch * length, -1, self.width))
        unfold = lambda x: x.reshape(batch, length, *x.shape[1:])  # noqa: E731
        return TowerFeatures(jax.tree.map(unfold, layers), places)

    def _blocks(self, x: jax.Array) -> tuple[LayerFeatures, ...]:
        """Tokens of frames with positions [F, K, C] -> features [F, 1+K, ..] of every block."""
        x = self._with_cls(x)
        layers = []
        for block in self.blocks:
            layers.append(block(x))
            x = layers[-1].out
        return tuple(layers)


def tower_fields(model: TowerFields, kind: type[TowerFields] = TowerFields) -> dict[str, Any]:
    """The fields of `kind` that a tower has of the model around it.

    All but the dtype, which may differ.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: getattr(model, name) for name in names - {"parent", "name", "dtype"}}


def tower_layer_id(path: Sequence[str], depth: int) -> int:
    """0 for a tower's embedding, i + 1 for its block i, depth + 1 for what is not in the tower."""
    if path[0] != "tower":
        return depth + 1
    if path[1].startswith("blocks_"):
        return int(path[1].removeprefix("blocks_")) + 1
    return 0
