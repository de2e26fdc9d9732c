"""EVL: a frozen CLIP image tower and a light decoder that watches its features through time.

Source: "Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550) and the official
repository OpenGVLab/efficient-video-recognition.
"""

import functools
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.clip import (
    ClipTower,
    LayerFeatures,
    TowerFeatures,
    TowerFields,
    tower_fields,
    tower_layer_id,
)
from fluxjax.models.dense_clips import one_grid, pixel_tokens, take_places
from fluxjax.models.evl_decoder import Decoder
from fluxjax.models.layers import LayerNorm, check_headless, uniform_init
from fluxjax.tokens.selection import group_dynamic_scores, top_places
from fluxjax.tokens.tokens import Tokens, gather

SELECT_AT = ("input", "features")


class Evl(TowerFields, kw_only=True):
    """EVL classifier.

    Attributes:
      num_classes: K; None: no head, what it would read is returned.
      num_frames: T that the temporal position tables are made for; others are resampled.
      decoder_layers: the decoder reads as many of the tower's last blocks.
      qkv_width, decoder_heads, decoder_mlp_ratio: of the decoder.
      mlp_dropout, head_dropout: rates inside the decoder's MLPs and before the head.
      temporal_conv, temporal_position, temporal_attention: the decoder's three temporal modules.
      train_tower: also train the image tower; False computes no gradient through it.
      select: where a budget takes effect: "input" runs the tower on the kept tokens only, which
        saves most; "features" runs it on whole frames and shows the decoder the kept tokens.
      tower_dtype: of the tower's computation and of the features, such as "bfloat16"; None: dtype.
      tower_gelu: of the image tower; the decoder's is always "quick".
      dtype: of the decoder's computation; parameters stay float32.

    The rest is of the image tower, see `fluxjax.models.clip.TowerFields`.
    """

    num_classes: int | None = 400
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
    tower_gelu: str = "quick"

    one_grid = True
    selections = ("places",)
    merges = False
    # What `features` depends on, besides the tower's parameters.
    feature_fields = (
        "num_heads", "patch", "ln_pre", "patch_bias", "tower_gelu", "pixels", "tower_dtype",
        "dtype", "decoder_layers", "temporal_attention",
    )  # fmt: skip

    def __post_init__(self):
        if self.select not in SELECT_AT:
            raise ValueError(f"select={self.select!r} is unknown; choose one of {SELECT_AT}")
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
        if self.num_classes is not None:
            dense = functools.partial(nn.Dense, kernel_init=init, bias_init=init)
            self.head = dense(self.num_classes, dtype=self.dtype)

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        head: int = 0,
        return_features: bool = False,
        train: bool = False,
        selection: str = "places",
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video_or_tokens: [B, T, H, W, 3], float normalised by `pixels` or uint8; or `Tokens`
            holding pixels, all on one grid without padding.
          budget: tokens kept a clip, cls tokens not counted, the same places in every frame; None
            keeps all.
          head: 0, the only one.
          return_features: also return what the head reads.
          train: dropout is active (needs rngs={"dropout": key}).
          selection: "places", the only one: see `fluxjax.tokens.selection.top_places`.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, width] float32.
          Without a head only these.

        Raises:
          ValueError: on packed tokens, a wrong shape, head or selection, or a budget below a token
            a frame.
        """
        if head != 0 or selection not in self.selections:
            raise ValueError(
                f"EVL has head 0 and the selections {self.selections}, not {head} and {selection!r}"
            )
        tokens = pixel_tokens(video_or_tokens, self.patch)
        features = self._selected(tokens, budget)
        x = self._query(features, one_grid(tokens, "EVL")[1:], train)
        if self.num_classes is None:
            check_headless(return_features)
            return x.astype(jnp.float32)
        logits = self._logits(x, train)
        return (logits, x.astype(jnp.float32)) if return_features else logits

    def kept_tokens(
        self, video_or_tokens: jax.Array | Tokens, budget: int | None, selection: str = "places"
    ) -> Tokens:
        """The tokens of pixels [B, budget, D] that `__call__` would keep, with their positions."""
        del selection
        tokens = pixel_tokens(video_or_tokens, self.patch)
        places = self._selected(tokens, budget).places
        if places is None:
            return tokens
        frames, rows, columns = one_grid(tokens, "EVL")
        index = places[:, None] + rows * columns * jnp.arange(frames)[:, None]
        index = index.reshape(len(places), -1)
        return gather(tokens, index, jnp.ones(index.shape, bool))

    def head_for(self, budget: int | None) -> int:
        """The only head, 0."""
        del budget
        return 0

    def _selected(self, tokens: Tokens, budget: int | None) -> TowerFeatures:
        """Features of the kept tokens."""
        grid = one_grid(tokens, "EVL")
        if budget is None or self.select == "input":
            return self.tower_features(tokens, budget)
        return _kept(self.tower_features(tokens), grid[1:], budget)

    def tower_features(
        self, video_or_tokens: jax.Array | Tokens, budget: int | None = None
    ) -> TowerFeatures:
        """The last `decoder_layers` blocks' features [B, T, 1+K, ..] of clips as in `__call__`.

        They are without gradient if the tower is frozen.
        """
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
        """Logits [B, num_classes] of `tower_features` on frames of `grid` (h, w) patches."""
        if budget is not None:
            features = _kept(features, grid, budget)
        return self._logits(self._query(features, grid, train), train)

    def _query(self, features: TowerFeatures, grid: tuple[int, int], train: bool) -> jax.Array:
        """What the decoder's query has gathered, normalised; [B, C]."""
        return self.norm(self.decoder(features.layers, grid, features.places, train))

    def _logits(self, x: jax.Array, train: bool) -> jax.Array:
        return self.head(self.dropout(x, deterministic=not train)).astype(jnp.float32)

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
        """Logits [B, num_classes] of `features` on frames of `grid` (h, w) patches."""
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
