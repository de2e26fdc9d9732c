"""InternVideo2: the video ViT that FluxViT starts from and is taught by.

Source: "InternVideo2: Scaling Foundation Models for Multimodal Video Understanding" (arXiv
2403.15377) and the official repository OpenGVLab/InternVideo, InternVideo2/single_modality.
It is FluxViT without dual patch norm, LPE, GPE and token selection, with one pooling projector.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.blocks import make_blocks
from fluxjax.models.layers import (
    AttentionPool,
    LayerNorm,
    Mlp,
    check_headless,
    linear_init,
    uniform_init,
)
from fluxjax.models.placing import PositionTable, prepend_cls
from fluxjax.models.trunk import run_blocks
from fluxjax.tokens.grids import PATCH
from fluxjax.tokens.positions import sincos_1d, sincos_3d
from fluxjax.tokens.selection import SELECTIONS, rank_tokens, select, selection_scores
from fluxjax.tokens.tokens import IMAGENET_PIXELS, Tokens, check_patch, normalize_pixels


class TeacherOutput(NamedTuple):
    """What a student is taught; B clips, N tokens without cls, K layers."""

    # [K, B, 1+N, C] float32, tokens of unit norm, shallow layers first; of a teacher of images
    # whose frames have cls tokens of their own, such as CLIP, [K, B, N, C]
    middle: jax.Array
    final: jax.Array | None  # [B, E] float32, unit norm; None of such a teacher
    # [B, N] float32, mean over heads, of the pooling or of the last block's cls token; the cls
    # token took the rest of 1
    attention: jax.Array


def return_layers(depth: int, count: int, interval: float = 1.0) -> tuple[int, ...]:
    """Blocks whose outputs are taught, ascending: depth - int(i * interval) - 1 for i < count.

    Raises:
      ValueError: if there are not that many blocks.
    """
    layers = sorted({depth - int(i * interval) - 1 for i in range(count)})
    if len(layers) != count or layers[:1] < [0]:
        raise ValueError(f"{count} layers at interval {interval} do not fit {depth} blocks")
    return tuple(layers)


class InternVideo2(nn.Module):
    """InternVideo2 classifier, backbone (num_classes None) and video teacher.

    Attributes:
      num_classes: K; None leaves out fc_norm and head, as in distilled models and teachers.
      width, depth, num_heads, mlp_ratio: of the transformer; width a multiple of 16.
      grid: (T, H, W) in patches of the position table; other grids are resampled at run time,
        where the reference demands its own.
      pooled: E, width of the pooled features.
      pool_heads: attention heads of the pooling projector.
      patch: patch side in pixels.
      position_scale: factor on the initial sin-cos tables, see `FluxViT`.
      separate_positions: a spatial and a temporal table, added, instead of one.
      attentive_probe: a residual MLP after pooling.
      layer_scale: initial value of the layer scales; None or 0 leaves them out.
      drop_path: stochastic depth rate of the last block, rising linearly from 0.
      gelu: of the blocks, "tanh" (what the released weights were trained with) or "exact".
      dtype: of the computation; parameters stay float32.
      attention: back end, see `fluxjax.models.attention`.
      scan_blocks: whether one block is compiled for all, see `fluxjax.models.trunk`; None: on TPUs.
    """

    num_classes: int | None = 400
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    grid: tuple[int, int, int] = (8, 16, 16)
    pooled: int = 768
    pool_heads: int = 16
    patch: int = PATCH
    position_scale: float = 1.0
    separate_positions: bool = False
    attentive_probe: bool = False
    layer_scale: float | None = 1e-5
    drop_path: float = 0.0
    gelu: str = "tanh"
    dtype: Any = jnp.float32
    attention: str = "auto"
    scan_blocks: bool | None = None

    pixels = IMAGENET_PIXELS
    one_grid = False
    selections = SELECTIONS
    merges = False

    def setup(self):
        """Builds the layers."""
        uniform = uniform_init((self.patch**2 * 3) ** -0.5)  # PyTorch's default for convolutions
        self.patch_embed = nn.Dense(
            self.width, kernel_init=uniform, bias_init=uniform, dtype=self.dtype
        )
        self.cls_token = self.param("cls_token", linear_init, (self.width,))
        self.cls_position = self.param("cls_position", nn.initializers.zeros, (self.width,))
        self.position_tables = self._position_tables()
        self.blocks = make_blocks(self, lpe=False)
        self.pooler = AttentionPool(self.pooled, self.pool_heads, self.dtype)
        if self.attentive_probe:
            zeros, hidden = nn.initializers.zeros, 4 * self.pooled
            self.probe_norm = LayerNorm(dtype=self.dtype)
            # Only the blocks are run by the reference's fused kernel: here GELU is always exact.
            self.probe_mlp = Mlp(hidden, gelu="exact", dtype=self.dtype, out_init=zeros)
        if self.num_classes is not None:
            self.fc_norm = LayerNorm(dtype=self.dtype)
            small = nn.initializers.normal(0.02 * 0.001)  # the reference's init_scale
            self.head = nn.Dense(self.num_classes, kernel_init=small, dtype=self.dtype)

    def _position_tables(self) -> tuple[jax.Array, ...]:
        """Tables that add up to [T, H, W, C]."""
        (t, h, w), scale = self.grid, self.position_scale
        if not self.separate_positions:
            table = lambda key: jnp.asarray(scale * sincos_3d(self.width, self.grid))  # noqa: E731
            return (self.param("position_table", table),)

        def spatial(key):
            column = sincos_1d(self.width // 2, np.arange(w))[None].repeat(h, axis=0)
            row = sincos_1d(self.width // 2, np.arange(h))[:, None].repeat(w, axis=1)
            return jnp.asarray(scale * np.concatenate([column, row], axis=-1))

        def temporal(key):
            return jnp.asarray(scale * sincos_1d(self.width, np.arange(t)))

        spatial_table = self.param("spatial_table", spatial)
        temporal_table = self.param("temporal_table", temporal)
        return spatial_table[None], temporal_table[:, None, None]

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        return_features: bool = False,
        train: bool = False,
        selection: str = "group_dynamic",
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video_or_tokens: [B, T, H, W, 3] float, normalised, or uint8; or `Tokens` holding pixels,
            all of a clip's or a selection.
          budget: tokens kept a clip, as FluxViT's paper measures this model (its table 1); None
            keeps all.
          return_features: also return the pooled features.
          train: drop paths are active (needs rngs={"dropout": key}).
          selection: which tokens are kept, see `tokens.selection.SELECTIONS`; "random" needs
            rngs={"selection": key}.

        Returns:
          logits [B, num_classes] float32, or the pooled features [B, pooled] float32 of a model
          without head; with `return_features` both.

        Raises:
          ValueError: on a wrong shape, or `return_features` of a model without head.
        """
        if self.num_classes is None:
            check_headless(return_features)
        key = self.make_rng("selection") if selection == "random" else None
        kept = self._placed(video_or_tokens)
        if budget is not None and budget < kept.valid.shape[1]:
            embedded, _ = self.embed(video_or_tokens)  # the same as before, without positions
            scores = selection_scores(jax.lax.stop_gradient(embedded), selection, key)
            kept = select(kept, rank_tokens(embedded, scores), budget)
        x, valid = self._with_cls(kept)
        x, valid, _ = run_blocks(self, x, valid, train)
        features = self.pooler(x, valid)
        if self.attentive_probe:
            features = features + self.probe_mlp(self.probe_norm(features))
        if self.num_classes is None:
            return features.astype(jnp.float32)
        logits = self.head(self.fc_norm(features)).astype(jnp.float32)
        return (logits, features.astype(jnp.float32)) if return_features else logits

    def teach(self, video_or_tokens: jax.Array | Tokens, layers: Sequence[int]) -> TeacherOutput:
        """Targets for a student.

        Args:
          video_or_tokens: as in `__call__`.
          layers: blocks whose outputs are taught, see `return_layers`; a set, as in the reference.

        Returns:
          Layers [K, B, 1+N, C], pooled features [B, pooled] and attention [B, N], all float32.

        Raises:
          ValueError: on a wrong shape or layer.
        """
        middle, final, attention = self._layers(video_or_tokens, layers)
        return TeacherOutput(_unit(middle), _unit(final), attention)

    def teach_frames(self, video: jax.Array, layers: Sequence[int]) -> TeacherOutput:
        """Targets of an image teacher, which sees every frame by itself (stage-1 pre-training).

        The middle cls token is the mean over frames of theirs, the final vector the mean of the
        pooled features; both become unit vectors after that.

        Args:
          video: [B, T, H, W, 3] as in `__call__`; the model's `grid` is of one frame.
          layers: as in `teach`.

        Returns:
          Layers [K, B, 1+T*H*W, C], frame after frame; pooled features [B, pooled]; the attention
          of every frame [B*T, H*W]. All float32.

        Raises:
          ValueError: on a wrong shape or layer.
        """
        b, t = video.shape[:2]
        frames = video.reshape(b * t, 1, *video.shape[2:])
        middle, final, attention = self._layers(frames, layers)
        middle = middle.astype(jnp.float32).reshape(len(middle), b, t, -1, self.width)
        cls = jnp.mean(middle[:, :, :, :1], axis=2)
        tokens = middle[:, :, :, 1:].reshape(len(middle), b, -1, self.width)
        final = jnp.mean(final.astype(jnp.float32).reshape(b, t, -1), axis=1)
        return TeacherOutput(_unit(jnp.concatenate([cls, tokens], axis=2)), _unit(final), attention)

    def _layers(
        self, video_or_tokens: jax.Array | Tokens, layers: Sequence[int]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Outputs of blocks [K, B, 1+N, C], pooled features [B, pooled], attention [B, N]."""
        if not layers or not set(layers) <= set(range(self.depth)):
            raise ValueError(f"layers {tuple(layers)} are not among 0 to {self.depth - 1}")
        x, valid = self._with_cls(self._placed(video_or_tokens))
        n = x.shape[1]
        x, valid, middle = run_blocks(self, x, valid, False, sorted(set(layers)))
        final, attention = self.pooler(x, valid, return_attention=True)
        return jnp.stack(middle), final, attention[:, 1:n]

    def embed(self, video_or_tokens: jax.Array | Tokens) -> tuple[Tokens, PositionTable]:
        """Clips as in `__call__` -> tokens [B, N, C] without positions, and the table of these."""
        tokens = video_or_tokens
        if not isinstance(tokens, Tokens):
            tokens = Tokens.from_video(tokens, self.patch)
        check_patch(tokens, self.patch)
        x = self.patch_embed(normalize_pixels(tokens.values, self.pixels).astype(self.dtype))
        table = PositionTable(sum(self.position_tables), tokens.static_grid, tokens.grid_bound)
        return tokens.replace(values=x), table

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def undecayed(self, path: Sequence[str]) -> bool:
        """Whether a parameter that is no vector has no weight decay: separate position tables."""
        return path[-1] in ("spatial_table", "temporal_table")

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer-wise learning-rate decay, 0 .. depth + 1.

        As in the reference, whose separate position tables are not counted to the embedding.
        """
        first = ("cls_token", "position_table", "patch_embed")
        if not self.separate_positions:
            first = (*first, "cls_position")
        if path[0] in first:
            return 0
        if path[0].startswith("blocks_"):
            return int(path[0].removeprefix("blocks_")) + 1
        return self.depth + 1

    def _placed(self, video_or_tokens: jax.Array | Tokens) -> Tokens:
        """Pixels -> tokens [B, N, C] with positions."""
        tokens, positions = self.embed(video_or_tokens)
        placed = tokens.values + positions.look_up(tokens).astype(self.dtype)
        return tokens.replace(values=placed)

    def _with_cls(self, tokens: Tokens) -> tuple[jax.Array, jax.Array | None]:
        """cls and tokens with positions [B, 1+N, C], and what is valid of them."""
        return prepend_cls((self.cls_token + self.cls_position).astype(self.dtype), tokens)


def _unit(x: jax.Array) -> jax.Array:
    """Rows of 2-norm 1, float32; as in the reference, without an epsilon."""
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
