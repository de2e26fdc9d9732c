"""AVION: a dual encoder of videos and captions, and a video classifier on its tower.

Source: "Training a Large Video Model on a Single Machine in a Day" (arXiv 2309.16669) and the
official repository zhaoyue-zephyrus/AVION, avion/models/model_clip.py.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.clip import tower_fields
from fluxjax.models.clip_text import ClipText
from fluxjax.models.clip_video import JointTower, VideoTowerFields
from fluxjax.models.dense_clips import pixel_tokens
from fluxjax.models.layers import LayerNorm, check_headless
from fluxjax.tokens.tokens import PixelStats, Tokens

# As the official training scripts have them on 0..255; the red mean was meant to be CLIP's 122.77
# (LaViLa, issue 15), but all released weights were trained with this one.
AVION_PIXELS = PixelStats(
    (108.3272985 / 255, 116.7460125 / 255, 104.09373615 / 255),
    (68.5005327 / 255, 66.6321579 / 255, 70.32316305 / 255),
)
INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
LOGIT_SCALES = (0.0, math.log(100))  # the official scripts clamp to them after every step
_TINY = 1e-12  # smallest norm that a vector is divided by


class Avion(VideoTowerFields, kw_only=True):
    """A dual encoder, or without text tower a video classifier.

    Attributes:
      num_classes: K of a classifier on the normed cls token; None: a dual encoder.
      embedding: E, width of both projections; None: neither they nor a text tower, the output is
        the normed cls token [B, width].
      head_dropout: rate before the classifier.
      train_temperature: False freezes the scale of the similarities, as AVION's pre-training does.
      vocab_size, context_length, text_width, text_depth, text_heads, text_epsilon, causal: of the
        text tower, see `ClipText`.

    The rest is of the video tower, see `VideoTowerFields`; the text tower has the same GELU,
    MLP ratio and remat.
    """

    num_classes: int | None = None
    embedding: int | None = 256
    head_dropout: float = 0.5
    train_temperature: bool = True
    vocab_size: int = 49408
    context_length: int = 77
    text_width: int = 512
    text_depth: int = 12
    text_heads: int = 8
    text_epsilon: float = 1e-5
    causal: bool = True
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = AVION_PIXELS

    one_grid = True

    def setup(self):
        """Builds the layers."""
        self.tower = JointTower(**tower_fields(self, VideoTowerFields), dtype=self.dtype)
        self.ln_post = LayerNorm(dtype=self.dtype, epsilon=self.epsilon)
        if self.num_classes is not None:
            init = nn.initializers.normal(0.01)
            self.dropout = nn.Dropout(self.head_dropout)
            self.head = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype)
        elif self.embedding is not None:
            init = nn.initializers.normal(self.width**-0.5)
            self.proj = nn.Dense(self.embedding, use_bias=False, kernel_init=init, dtype=self.dtype)
            self.text = self._text()
            start = nn.initializers.constant(INITIAL_LOGIT_SCALE)
            self.logit_scale = self.param("logit_scale", start, ())

    def _text(self) -> ClipText:
        return ClipText(
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            width=self.text_width,
            depth=self.text_depth,
            num_heads=self.text_heads,
            mlp_ratio=self.mlp_ratio,
            embedding=self.embedding,
            causal=self.causal,
            gelu=self.gelu,
            epsilon=self.text_epsilon,
            dtype=self.dtype,
            remat=self.remat,
        )

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        ids: jax.Array | None = None,
        train: bool = False,
        return_features: bool = False,
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Embeds videos and captions, or classifies videos.

        Args:
          video_or_tokens: clips [B, T, H, W, 3] or images [B, H, W, 3], float normalised by
            `pixels` or uint8; or `Tokens` holding pixels, all on one grid without padding. T, H
            and W may differ from those of the position tables, which are then resampled.
          ids: [B, L] int32 token ids of captions, for the dual encoder.
          train: dropout, patch dropout and drop paths are active (needs rngs={"dropout": key}).
          return_features: of a classifier also what its head reads, [B, width] float32.

        Returns:
          With `ids` (videos [B, E], captions [B, E], scale scalar), float32: unit vectors, and what
          their products are multiplied by. Without them a classifier's logits [B, num_classes], or
          `encode_video`'s result.

        Raises:
          ValueError: on ids for a classifier, packed tokens or a wrong shape.
        """
        if ids is not None:
            self._check_dual()
            video = _unit(self.encode_video(video_or_tokens, train))
            return video, _unit(self.encode_text(ids)), jnp.exp(self.logit_scale)
        x = self._pooled(video_or_tokens, train)
        if self.num_classes is None:
            if self.is_initializing() and self.embedding is not None:
                self.text(jnp.zeros((1, self.context_length), jnp.int32))
            check_headless(return_features)
            return self._projected(x)
        logits = self.head(self.dropout(x, deterministic=not train)).astype(jnp.float32)
        return (logits, x.astype(jnp.float32)) if return_features else logits

    def encode_video(self, video_or_tokens: jax.Array | Tokens, train: bool = False) -> jax.Array:
        """Videos as in `__call__` -> [B, E] float32, not of unit norm; [B, width] without E."""
        return self._projected(self._pooled(video_or_tokens, train))

    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Token ids [B, L] -> [B, E] float32, not of unit norm."""
        self._check_dual()
        return self.text(ids)

    def _pooled(self, video_or_tokens: jax.Array | Tokens, train: bool) -> jax.Array:
        """The normed cls token [B, width]."""
        tokens = pixel_tokens(video_or_tokens, self.patch)
        return self.ln_post(self.tower(tokens, train)[:, 0])

    def _projected(self, x: jax.Array) -> jax.Array:
        projected = self.num_classes is None and self.embedding is not None
        return (self.proj(x) if projected else x).astype(jnp.float32)

    def _check_dual(self) -> None:
        if self.num_classes is not None or self.embedding is None:
            raise ValueError(
                f"num_classes={self.num_classes}, embedding={self.embedding}: this model has no "
                "text tower; create it with num_classes=None for a dual encoder"
            )

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained."""
        return path[0] == "logit_scale" and not self.train_temperature

    def bounds(self, path: Sequence[str]) -> tuple[float, float] | None:
        """Lowest and highest value that training gives a parameter; None: any."""
        return LOGIT_SCALES if path[0] == "logit_scale" else None

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer decay, 0 to depth + 1; towers count alike."""
        if path[0] not in ("tower", "text") or path[1] in ("norm", "proj"):
            return self.depth + 1
        if path[1].startswith("blocks_"):
            return min(int(path[1].removeprefix("blocks_")), self.depth - 1) + 1
        return 0


def _unit(x: jax.Array) -> jax.Array:
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, _TINY**2))
