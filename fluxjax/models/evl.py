"""EVL: a frozen CLIP image tower and a light decoder that watches its features through time.

Source: "Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550) and the official
repository OpenGVLab/efficient-video-recognition.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.clip import (
    ClipTower,
    LayerFeatures,
    TowerFeatures,
    one_grid,
    pixel_tokens,
    take_places,
    tower_fields,
    tower_layer_id,
)
from fluxjax.models.layers import LayerNorm, gelu, uniform_init
from fluxjax.models.temporal_attention import TemporalCrossAttention
from fluxjax.positions import linear_matrix
from fluxjax.selection import group_dynamic_scores, top_places
from fluxjax.tokens import CLIP_PIXELS, Tokens

SELECTIONS = ("input", "features")

_xavier = nn.initializers.xavier_uniform()


class TemporalConv(nn.Module):
    """Depthwise convolution over time, kernel 3, zeros beyond the ends."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, L, C] -> [B, T, L, C]; every token's place on its own, cls too."""
        width, init = x.shape[-1], uniform_init(3**-0.5)
        kernel = self.param("kernel", init, (3, width)).astype(self.dtype)
        bias = self.param("bias", init, (width,)).astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (0, 0), (0, 0)))
        frames = x.shape[1]
        return bias + sum(padded[:, i : i + frames] * kernel[i] for i in range(3))


class TemporalFeatures(nn.Module):
    """Frame features with what the neighbouring frames tell; the features given stay as they are.

    Attributes: see `Evl`.
    """

    num_frames: int
    grid: tuple[int, int]
    conv: bool = True
    position: bool = True
    cross_attention: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, layer: LayerFeatures, grid: tuple[int, int], places: jax.Array | None
    ) -> jax.Array:
        """Features [B, T, L, ..] -> [B, T, L, C]."""
        frames, width = layer.out.shape[1], layer.out.shape[-1]
        x = layer.out.astype(self.dtype)
        total = x
        if self.conv:
            total = total + TemporalConv(self.dtype, name="conv")(x)
        if self.position:
            table = self.param("position", nn.initializers.zeros, (self.num_frames, width))
            if frames != self.num_frames:
                exact = jax.lax.Precision.HIGHEST
                resample = linear_matrix(frames, frames, self.num_frames)
                table = jnp.matmul(resample, table, precision=exact)
            total = total + table[:, None].astype(self.dtype)
        if self.cross_attention:  # q and k may be absent without
            q, k = layer.q.astype(self.dtype), layer.k.astype(self.dtype)
            attend = TemporalCrossAttention(width, self.grid, name="cross_attention")
            total = total + attend(q, k, grid, places).astype(self.dtype)
        return total


class _Linear(nn.Module):
    """The parameters of a linear map, for products in another order than input times kernel."""

    features: int

    @nn.compact
    def __call__(self, width: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", _xavier, (width, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return kernel.astype(dtype), bias.astype(dtype)


class QueryAttention(nn.Module):
    """Attention of one query a clip to all its tokens.

    With a single query, keys and values need not be computed: q . (y Wk) is (Wk q) . y, and the
    weighted sum of y Wv is (the weighted sum of y) Wv. This is the same function at 1/64 of the
    products for ViT-B/16. The keys' bias adds the same to all logits and has no effect; it is kept
    because the official weights have it.
    """

    features: int
    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Query [B, C], tokens [B, N, C] -> [B, C]."""
        width, heads, head_dim = x.shape[-1], self.num_heads, self.features // self.num_heads
        q = nn.Dense(self.features, kernel_init=_xavier, dtype=self.dtype, name="q")(x)
        key_kernel, _ = _Linear(self.features, name="k")(width, self.dtype)
        value_kernel, value_bias = _Linear(self.features, name="v")(width, self.dtype)
        q = q.reshape(-1, heads, head_dim) * head_dim**-0.5
        q = jnp.einsum("bhd,chd->bhc", q, key_kernel.reshape(width, heads, head_dim))
        logits = jnp.einsum("bhc,bnc->bhn", q, y, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        pooled = jnp.einsum("bhn,bnc->bhc", weights, y)
        out = jnp.einsum("bhc,chd->bhd", pooled, value_kernel.reshape(width, heads, head_dim))
        out = out.reshape(-1, self.features) + value_bias
        return nn.Dense(width, kernel_init=_xavier, dtype=self.dtype, name="out")(out)


class DecoderLayer(nn.Module):
    """The query attends to a layer's frame features, then an MLP."""

    temporal: dict[str, Any]
    qkv_width: int
    num_heads: int
    mlp_ratio: float
    mlp_dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, layer: LayerFeatures, grid, places, train: bool) -> jax.Array:
        """Query [B, C] -> [B, C]."""
        width = x.shape[-1]
        frames = TemporalFeatures(**self.temporal, dtype=self.dtype, name="temporal")
        y = frames(layer, grid, places).reshape(x.shape[0], -1, width)
        y = LayerNorm(dtype=self.dtype, name="norm3")(y)
        attend = QueryAttention(self.qkv_width, self.num_heads, self.dtype, name="attn")
        x = x + attend(LayerNorm(dtype=self.dtype, name="norm1")(x), y)
        small = nn.initializers.normal(1e-6)
        dense = {"kernel_init": _xavier, "bias_init": small, "dtype": self.dtype}
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = gelu(nn.Dense(round(width * self.mlp_ratio), name="fc1", **dense)(y), "quick")
        y = nn.Dropout(self.mlp_dropout, deterministic=not train)(y)
        return x + nn.Dense(width, name="fc2", **dense)(y)


class Decoder(nn.Module):
    """One learned query through the features of the last blocks, shallow ones first."""

    layers: int
    layer: dict[str, Any]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Sequence[LayerFeatures],
        grid: tuple[int, int],
        places: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Features [B, T, L, ..] of as many blocks as layers -> [B, C]."""
        batch, _, _, width = features[0].out.shape
        query = self.param("cls_token", nn.initializers.zeros, (width,)).astype(self.dtype)
        x = jnp.broadcast_to(query, (batch, width))
        for i in range(self.layers):
            layer = DecoderLayer(**self.layer, dtype=self.dtype, name=f"layers_{i}")
            x = layer(x, features[i], grid, places, train)
        return x


class Evl(nn.Module):
    """EVL classifier.

    Attributes:
      num_classes: K.
      num_frames: T that the temporal position tables are made for; others are resampled.
      decoder_layers: the decoder reads as many of the tower's last blocks.
      qkv_width, decoder_heads, decoder_mlp_ratio: of the decoder.
      mlp_dropout, head_dropout: rates inside the decoder's MLPs and before the head.
      temporal_conv, temporal_position, temporal_attention: the decoder's three temporal modules.
      train_tower: also train the image tower; False computes no gradient through it.
      select: where a budget takes effect: "input" runs the tower on the kept tokens only, which
        saves most; "features" runs it on whole frames and shows the decoder the kept tokens.
      tower_dtype: of the tower's computation and of the features, such as "bfloat16"; None: dtype.
      width, depth, num_heads, mlp_ratio, grid, patch, ln_pre, patch_bias, position_scale: of the
        image tower, see `fluxjax.models.clip.ClipTower`.
      tower_gelu: of the image tower; the decoder's is always "quick".
      dtype: of the decoder's computation; parameters stay float32.
      attention: back end of the tower, see `fluxjax.models.attention`.
    """

    num_classes: int = 400
    num_frames: int = 8
    decoder_layers: int = 4
    qkv_width: int = 768
    decoder_heads: int = 12
    decoder_mlp_ratio: float = 4.0
    mlp_dropout: float = 0.5
    head_dropout: float = 0.5
    temporal_conv: bool = True
    temporal_position: bool = True
    temporal_attention: bool = True
    train_tower: bool = False
    select: str = "input"
    tower_dtype: str | None = None
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    grid: tuple[int, int] = (14, 14)
    patch: int = 16
    ln_pre: bool = True
    patch_bias: bool = False
    position_scale: float | None = None
    tower_gelu: str = "quick"
    dtype: Any = jnp.float32
    attention: str = "xla"

    pixels = CLIP_PIXELS
    one_grid = True

    def __post_init__(self):
        if self.select not in SELECTIONS:
            raise ValueError(f"select={self.select!r} is unknown; choose one of {SELECTIONS}")
        if not 1 <= self.decoder_layers <= self.depth:
            raise ValueError(
                f"decoder_layers={self.decoder_layers} must lie between 1 and depth={self.depth}: "
                "every layer reads the features of another block"
            )
        super().__post_init__()

    def setup(self):
        """Builds the layers."""
        dtype = self.dtype if self.tower_dtype is None else jnp.dtype(self.tower_dtype)
        self.tower = ClipTower(**tower_fields(self), gelu=self.tower_gelu, dtype=dtype)
        temporal = {
            "num_frames": self.num_frames,
            "grid": self.grid,
            "conv": self.temporal_conv,
            "position": self.temporal_position,
            "cross_attention": self.temporal_attention,
        }
        layer = {
            "temporal": temporal,
            "qkv_width": self.qkv_width,
            "num_heads": self.decoder_heads,
            "mlp_ratio": self.decoder_mlp_ratio,
            "mlp_dropout": self.mlp_dropout,
        }
        self.decoder = Decoder(self.decoder_layers, layer, self.dtype)
        self.norm = LayerNorm(dtype=self.dtype)
        self.dropout = nn.Dropout(self.head_dropout)
        init = uniform_init(self.width**-0.5)
        self.head = nn.Dense(self.num_classes, kernel_init=init, bias_init=init, dtype=self.dtype)

    def __call__(
        self, video_or_tokens: jax.Array | Tokens, budget: int | None = None, train: bool = False
    ) -> jax.Array:
        """Classifies clips.

        Args:
          video_or_tokens: [B, T, H, W, 3], float normalised by `CLIP_PIXELS` or uint8; or `Tokens`
            holding pixels, all on one grid without padding.
          budget: tokens kept a clip, cls tokens not counted, the same places in every frame; None
            keeps all.
          train: dropout is active (needs rngs={"dropout": key}).

        Returns:
          logits [B, num_classes] float32.

        Raises:
          ValueError: on packed tokens, a wrong shape or a budget below a token a frame.
        """
        tokens = pixel_tokens(video_or_tokens, self.patch)
        grid = one_grid(tokens, "EVL")
        early = budget if self.select == "input" else None
        features = self.tower_features(tokens, early)
        late = budget if self.select == "features" else None
        return self.decode(features, grid[1:], late, train)

    def tower_features(
        self, video_or_tokens: jax.Array | Tokens, budget: int | None = None
    ) -> TowerFeatures:
        """The last `decoder_layers` blocks' features; without gradient if the tower is frozen."""
        features = self.tower(pixel_tokens(video_or_tokens, self.patch), budget)
        features = features._replace(layers=features.layers[-self.decoder_layers :])
        return features if self.train_tower else jax.lax.stop_gradient(features)

    def decode(
        self,
        features: TowerFeatures,
        grid: tuple[int, int],
        budget: int | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Logits of `tower_features` on frames of `grid` (h, w) patches; see `__call__`."""
        if budget is not None:
            features = _kept(features, grid, budget)
        x = self.decoder(features.layers, grid, features.places, train)
        x = self.dropout(self.norm(x), deterministic=not train)
        return self.head(x).astype(jnp.float32)

    def features(self, video_or_tokens: jax.Array | Tokens) -> dict[str, jax.Array]:
        """What the decoder reads of whole frames, as arrays to keep: [B, layers, T, L, ..] each."""
        layers = self.tower_features(video_or_tokens).layers
        names = LayerFeatures._fields if self.temporal_attention else ("out",)
        return {name: jnp.stack([getattr(x, name) for x in layers], axis=1) for name in names}

    def classify_features(
        self,
        features: Mapping[str, jax.Array],
        grid: tuple[int, int],
        budget: int | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Logits of `features` on frames of `grid` (h, w) patches; see `__call__`."""
        layers = tuple(
            LayerFeatures(*(features[name][:, i] if name in features else None
                            for name in LayerFeatures._fields))
            for i in range(self.decoder_layers)
        )  # fmt: skip
        if budget is not None and self.select == "input":
            full = (layers[0].out.shape[2] - 1) * layers[0].out.shape[1]
            if budget < full:
                raise ValueError(
                    f"budget {budget} of {full} tokens: select='input' cannot choose from features"
                )
            budget = None
        return self.decode(TowerFeatures(layers, None), grid, budget, train)

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained."""
        return path[0] == "tower" and not self.train_tower

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer decay: see `tower_layer_id`."""
        return tower_layer_id(path, self.depth)


def _kept(features: TowerFeatures, grid: tuple[int, int], budget: int) -> TowerFeatures:
    """Features of the places that change most, judged by the shallowest layer's."""
    out = features.layers[0].out[:, :, 1:]
    batch, frames, count, width = out.shape
    if features.places is not None or budget >= frames * count:
        return features
    full = (frames, *grid)
    sides = jnp.broadcast_to(jnp.array(full, jnp.int32), (batch, 3))
    tokens = Tokens.from_patches(out.reshape(batch, -1, width), sides, full).replace(padded=False)
    scores = group_dynamic_scores(jax.lax.stop_gradient(tokens))
    places = top_places(scores, full, budget)
    with_cls = jnp.pad(places + 1, ((0, 0), (1, 0)))
    layers = jax.tree.map(lambda x: take_places(x, with_cls), features.layers)
    return TowerFeatures(layers, places)
