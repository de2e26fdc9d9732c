"""Flux-CLIP: FluxViT at any token budget, and CLIP's text tower, in one space.

Source: "Make Your Training Flexible" (arXiv 2503.14237), table 16, whose code is not released;
the head of the video tower, a LayerNorm and a linear map of the pooled features, is that of its
ancestor InternVideo2-CLIP (OpenGVLab/InternVideo, InternVideo2/multi_modality).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.avion import INITIAL_LOGIT_SCALE, LOGIT_SCALES
from fluxjax.models.clip_text import ClipText
from fluxjax.models.fluxvit import FluxViT, last_tokens
from fluxjax.models.layers import unit
from fluxjax.tokens.tokens import Tokens


class FluxClip(FluxViT):
    """A dual encoder: FluxViT with a pooling projector a budget, and a causal text tower.

    Attributes:
      num_classes: None: there are no heads.
      embedding: E, of the space that videos and texts share.
      train_temperature: False freezes the scale of the similarities.
      vocab_size, context_length, text_width, text_depth, text_heads, text_gelu: of the text tower,
        see `ClipText`.

    The rest is of `FluxViT`. The projection to the space is the same for all budgets, so that a
    text has one embedding and every budget meets it.
    """

    num_classes: int | None = None
    embedding: int = 512
    train_temperature: bool = True
    vocab_size: int = 49408
    context_length: int = 77
    text_width: int = 512
    text_depth: int = 12
    text_heads: int = 8
    text_gelu: str = "quick"

    def setup(self):
        """Builds the layers."""
        super().setup()
        init = nn.initializers.normal(self.pooled**-0.5)
        self.proj = nn.Dense(self.embedding, use_bias=False, kernel_init=init, dtype=self.dtype)
        self.text = ClipText(
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            width=self.text_width,
            depth=self.text_depth,
            num_heads=self.text_heads,
            embedding=self.embedding,
            gelu=self.text_gelu,
            dtype=self.dtype,
            remat=self.remat,
        )
        start = nn.initializers.constant(INITIAL_LOGIT_SCALE)
        self.logit_scale = self.param("logit_scale", start, ())

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        ids: jax.Array | None = None,
        budget: int | None = None,
        train: bool = False,
        selection: str = "group_dynamic",
        return_tokens: bool = False,
    ) -> jax.Array | tuple[jax.Array | Tokens, ...]:
        """Embeds videos and captions.

        Args:
          video_or_tokens, budget, train, selection: as of `FluxViT`.
          ids: [B, L] int32 token ids of captions; None: videos alone.
          return_tokens: of videos alone also the last block's tokens.

        Returns:
          With `ids` (videos [B, E], captions [B, E], scale scalar), float32: unit vectors, and what
          their products are multiplied by. Without them `encode_video`'s result.

        Raises:
          ValueError: on a wrong shape, budget or selection, or `return_tokens` with `ids`.
        """
        if self.is_initializing():  # every projector gets its parameters
            self.forward_budgets(video_or_tokens)
            if ids is None:
                self.text(jnp.zeros((1, self.context_length), jnp.int32))
        video = self.encode_video(video_or_tokens, budget, train, selection, return_tokens)
        if ids is None:
            return video
        if return_tokens:
            raise ValueError("return_tokens=True is for videos alone; leave out ids")
        return unit(video), unit(self.encode_text(ids)), jnp.exp(self.logit_scale)

    def embed_budgets(
        self, video_or_tokens: jax.Array | Tokens, ids: jax.Array, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
        """Training: videos at each of `budgets`, and their captions once.

        Returns:
          A tuple of videos [B, E], captions [B, E], all of unit norm, and the scale; float32.
        """
        videos = self.forward_budgets(video_or_tokens, train=train)
        texts = unit(self.encode_text(ids))
        return tuple(map(unit, videos)), texts, jnp.exp(self.logit_scale)

    def encode_video(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        train: bool = False,
        selection: str = "group_dynamic",
        return_tokens: bool = False,
    ) -> jax.Array | tuple[jax.Array, Tokens]:
        """Videos at a budget -> [B, E] float32, not of unit norm; and the last block's tokens."""
        embedded, positions = self.embed(video_or_tokens)
        (kept,) = self._kept(embedded, positions, [budget], selection)
        x, valid = self._trunk(*self._with_cls(kept), train)
        video = self._projected(x, valid, self.head_for(budget))
        return (video, last_tokens(x, kept)) if return_tokens else video

    def forward_budgets(
        self,
        video_or_tokens: jax.Array | Tokens,
        budgets: Sequence[int] | None = None,
        train: bool = False,
    ) -> list[jax.Array]:
        """The same videos at several budgets, [B, E] float32 each, not of unit norm.

        Args:
          video_or_tokens: as in `__call__`.
          budgets: largest first, budget i by projector i; None: the model's own.
          train: drop paths are active.
        """
        embedded, positions = self.embed(video_or_tokens)
        kept = self._kept(embedded, positions, self.budgets if budgets is None else budgets)
        trunks = (self._trunk(*self._with_cls(tokens), train) for tokens in kept)
        return [self._projected(*trunk, i) for i, trunk in enumerate(trunks)]

    def encode_text(self, ids: jax.Array) -> jax.Array:
        """Token ids [B, L] -> [B, E] float32, not of unit norm."""
        return self.text(ids)

    def _projected(self, x: jax.Array, valid: jax.Array | None, head: int) -> jax.Array:
        pooled = self.fc_norm(self.poolers[head](x, valid))
        return self.proj(pooled).astype(jnp.float32)

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained."""
        return path[0] == "logit_scale" and not self.train_temperature

    def bounds(self, path: Sequence[str]) -> tuple[float, float] | None:
        """Lowest and highest value that training gives a parameter; None: any."""
        return LOGIT_SCALES if path[0] == "logit_scale" else None
