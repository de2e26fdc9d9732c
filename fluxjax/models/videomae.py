"""VideoMAE fine-tuned: the encoder and a linear classifier.

Source: see `fluxjax.models.videomae_encoder`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.layers import LayerNorm, check_headless, masked_mean
from fluxjax.models.videomae_encoder import Encoder, VideoMaeFields, encoder_fields
from fluxjax.tokens.selection import SELECTIONS, rank_tokens, select, selection_scores
from fluxjax.tokens.tokens import Tokens
from fluxjax.tokens.tubelets import frames_of

POOLINGS = ("mean", "mean_of_normed", "first")


class VideoMae(VideoMaeFields, kw_only=True):
    """VideoMAE classifier.

    Attributes:
      num_classes: K; None: no head, what it would read is returned.
      pooling: "mean" reads the LayerNorm of the mean of all tokens, as in released classifiers;
        "mean_of_normed" the mean of the encoder's normed tokens, as it was pre-trained to give;
        "first" the first of these.
      head_dropout: rate before the head.

    The rest is of the encoder, see `fluxjax.models.videomae_encoder.VideoMaeFields`.
    """

    num_classes: int | None = 400
    pooling: str = "mean"
    head_dropout: float = 0.0

    one_grid = False
    selections = SELECTIONS
    merges = False

    def __post_init__(self):
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling={self.pooling!r} is unknown; choose one of {POOLINGS}")
        super().__post_init__()

    def setup(self):
        """Builds the layers."""
        pools_raw = self.pooling == "mean"
        self.encoder = Encoder(**encoder_fields(self), norm=not pools_raw)
        if pools_raw:
            self.fc_norm = LayerNorm(self.dtype, self.head_epsilon)
        self.dropout = nn.Dropout(self.head_dropout)
        if self.num_classes is not None:
            small = nn.initializers.normal(0.02 * 0.001)  # the reference's init_scale
            self.head = nn.Dense(self.num_classes, kernel_init=small, dtype=self.dtype)

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        head: int = 0,
        return_features: bool = False,
        train: bool = False,
        selection: str = "group_dynamic",
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video_or_tokens: [B, T, H, W, 3] float, normalised (see `fluxjax.tokens`), or uint8; or
            `Tokens` holding pixels of patches, each clip on its own grid. Of frames that fill no
            tubelet the last one counts again.
          budget: patches of frames that are kept a clip, `tubelet` of them a token; None: all.
          head: 0, the only one.
          return_features: also return what the head reads.
          train: drop paths and dropout are active (needs rngs={"dropout": key}).
          selection: which tokens are kept, see `tokens.selection.SELECTIONS`; "random" needs
            rngs={"selection": key}.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, width] float32.
          Without a head only these.

        Raises:
          ValueError: on a wrong shape, head, budget or selection, or floats that are no normalised
            pixels.
        """
        if head != 0:
            raise ValueError(f"VideoMAE has one head, 0, not {head}")
        tokens = self._kept(self.cubes(video_or_tokens), budget, selection)
        features = self._pooled(tokens, train)
        if self.num_classes is None:
            check_headless(return_features)
            return features.astype(jnp.float32)
        dropped = self.dropout(features, deterministic=not train)
        logits = self.head(dropped.astype(self.dtype)).astype(jnp.float32)
        return (logits, features.astype(jnp.float32)) if return_features else logits

    def kept_tokens(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None,
        selection: str = "group_dynamic",
    ) -> Tokens:
        """The patches [B, budget, C/tubelet] of the tokens that `__call__` would keep."""
        cubes = self.cubes(video_or_tokens)
        if isinstance(video_or_tokens, Tokens):
            frames = video_or_tokens.grid[:, :1]
        else:
            frames = jnp.full((len(cubes.grid), 1), video_or_tokens.shape[1], jnp.int32)
        return frames_of(self._kept(cubes, budget, selection), self.tubelet, frames)

    def head_for(self, budget: int | None) -> int:
        """The only head, 0."""
        del budget
        return 0

    def _kept(self, cubes: Tokens, budget: int | None, selection: str) -> Tokens:
        """Embedded tokens of the best tubelets, with positions."""
        if budget is not None and budget < self.tubelet:
            raise ValueError(
                f"a budget of {budget} keeps no token: each has {self.tubelet} patches, one of "
                "each of its frames"
            )
        embedded = self.encoder.embed_pixels(cubes)
        placed = embedded.replace(values=embedded.values + self.encoder.codes(cubes))
        if budget is None or budget // self.tubelet >= cubes.valid.shape[1]:
            return placed
        # Selection is a hard choice: no gradient flows through scores.
        fixed = jax.lax.stop_gradient(embedded)
        key = self.make_rng("selection") if selection == "random" else None
        ranking = rank_tokens(embedded, selection_scores(fixed, selection, key))
        return select(placed, ranking, budget // self.tubelet)

    def _pooled(self, tokens: Tokens, train: bool) -> jax.Array:
        """What the head reads, [B, C]."""
        x = self.encoder(tokens, train)
        if self.pooling == "first":
            return x[:, 0]
        mean: Any = masked_mean(x, tokens.valid if tokens.padded else None)
        return self.fc_norm(mean) if self.pooling == "mean" else mean
