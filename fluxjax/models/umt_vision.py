"""UMT's models of video alone: the encoder as a student of CLIP, and as a classifier.

Sources: "Unmasked Teacher" (arXiv 2303.16058), OpenGVLab/unmasked_teacher, single_modality and the
vision encoder of multi_modality; mlvlab/vid-TLDR.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.internvideo2 import return_layers
from fluxjax.models.layers import LayerNorm, check_headless, masked_mean, unit
from fluxjax.models.students import Aligned, Visible
from fluxjax.models.umt_encoder import (
    EPSILON,
    UmtEncoder,
    UmtFields,
    encoder_fields,
    encoder_layer_id,
)
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.tokens import Tokens

_xavier = nn.initializers.xavier_uniform()


class Student(NamedTuple):
    """What a student gives of the tokens it sees; L decoded layers, shallow ones first.

    Attributes:
      decoded: [L, B, K, E] float32, not of unit norm, to be compared with a teacher's features.
      layers: [L, B, K, C], what is decoded, less its positions; the last are the encoder's tokens.
      pooled: [B, C] float32, of these.
    """

    decoded: jax.Array
    layers: jax.Array
    pooled: jax.Array


class FeatureDecoder(nn.Module):
    """Linear and LayerNorm: a student's tokens to the width of its teacher's."""

    width: int
    epsilon: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, K, C] -> [B, K, E] float32."""
        x = nn.Dense(self.width, kernel_init=_xavier, dtype=self.dtype, name="head")(x)
        norm = LayerNorm(dtype=self.dtype, epsilon=self.epsilon, name="norm")
        return norm(x).astype(jnp.float32)


class UmtVision(UmtFields, kw_only=True):
    """UMT's video encoder with its final norm; with decoders the student of an image teacher.

    Attributes:
      num_classes: not used; every model of the registry has it.
      pooling_norm: a LayerNorm after pooling, as retrieval has and question answering has not.
      taught_layers: as many of the last blocks are decoded for a teacher; 0: no decoders.
      taught_interval: from one decoded block to the next, see `return_layers`.
      taught_width: E, of the teacher's features.
      decoder_epsilon: of the decoders' norms: 1e-6 pre-trained alone, 1e-5 with text.

    The rest is of the encoder, too, see `UmtFields`.
    """

    num_classes: int | None = None
    pooling_norm: bool = True
    taught_layers: int = 0
    taught_interval: float = 1.0
    taught_width: int = 512
    decoder_epsilon: float = EPSILON

    def setup(self):
        """Builds the layers."""
        self.encoder = UmtEncoder(**encoder_fields(self))
        self.norm = LayerNorm(dtype=self.dtype, epsilon=EPSILON)
        if self.pooling_norm:
            self.pool_norm = LayerNorm(dtype=self.dtype, epsilon=EPSILON)
        self.decoders = [
            FeatureDecoder(self.taught_width, self.decoder_epsilon, self.dtype)
            for _ in range(self.taught_layers)
        ]

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        merge: Sequence[float] = (),
        train: bool = False,
        visible: jax.Array | None = None,
        pool_by_mass: bool = False,
        per_frame: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes clips.

        Args:
          video_or_tokens, merge, visible, train: see `UmtEncoder`.
          pool_by_mass: tokens weigh as much as was merged into them; the reference takes the plain
            mean.
          per_frame: pool the tokens of each frame; needs all tokens.

        Returns:
          tokens [B, N, C] and pooled [B, C] (`per_frame`: [B, T, C]), float32.

        Raises:
          ValueError: on a wrong shape or merge schedule, or frames whose tokens merged.
        """
        encoded = self.encoder(video_or_tokens, merge, visible, train)
        tokens = self.norm(encoded.layers[-1])
        if self.is_initializing() and self.taught_layers:
            self._decode((tokens,) * self.taught_layers, jnp.zeros_like(tokens))
        if per_frame:
            if encoded.mass is not None or visible is not None:
                raise ValueError("per_frame=True needs all tokens of every frame; leave out merge")
            frames = self.encoder.token_grid(video_or_tokens)[0]
            frames = tokens.reshape(len(tokens) * frames, -1, self.width)
            return tokens.astype(jnp.float32), self._pooled(frames).reshape(
                len(tokens), -1, self.width
            )
        mass = encoded.mass if pool_by_mass else None
        return tokens.astype(jnp.float32), self._pooled(tokens, mass)

    encode_video = __call__

    def _pooled(self, tokens: jax.Array, mass: jax.Array | None = None) -> jax.Array:
        """[B, N, C], weights [B, N] -> [B, C] float32."""
        pooled = masked_mean(tokens, None)
        if mass is not None:
            weight = mass / jnp.sum(mass, axis=1, keepdims=True)
            pooled = jnp.einsum("bnc,bn->bc", tokens.astype(jnp.float32), weight)
        return (self.pool_norm(pooled) if self.pooling_norm else pooled).astype(jnp.float32)

    def student(
        self,
        video_or_tokens: jax.Array | Tokens,
        visible: jax.Array,
        train: bool = False,
    ) -> Student:
        """What is compared with a teacher's features (UMT, section 3.2).

        Args:
          video_or_tokens, train: see `UmtEncoder`.
          visible: [B, K] int32, ascending, the tokens that are seen.

        Returns:
          Features [L, B, K, ..] of the taught layers.
        """
        layers = self.encoder(video_or_tokens, (), visible, train).layers
        taught = return_layers(self.depth, self.taught_layers, self.taught_interval)
        normed = tuple(self.norm(layers[i]) for i in taught)
        count = math.prod(self.encoder.token_grid(video_or_tokens))
        # A second table, of the decoders; it has the codes of the first where that is not learned.
        codes = jnp.asarray(flat_sincos(self.width, count))[visible]
        decoded = self._decode(normed, codes.astype(self.dtype))
        return Student(decoded, jnp.stack(normed), self._pooled(normed[-1]))

    def align(
        self,
        video_or_tokens: jax.Array | Tokens,
        visible: Sequence[Visible],
        train: bool = False,
    ) -> list[Aligned]:
        """What is compared with a teacher's unit vectors, at each budget.

        Args:
          video_or_tokens, train: see `UmtEncoder`.
          visible: for each budget the tokens that are seen, all of them valid.

        Returns:
          Of each budget the `Aligned`, middle [L, B, K, E] float32.
        """
        decoded = (self.student(video_or_tokens, one.index, train).decoded for one in visible)
        return [Aligned(unit(features, 0.0), None) for features in decoded]

    def features(self, video_or_tokens: jax.Array | Tokens) -> jax.Array:
        """What a probe reads of clips as in `__call__`: pooled [B, C] float32."""
        return self(video_or_tokens)[1]

    def _decode(self, layers: tuple[jax.Array, ...], codes: jax.Array) -> jax.Array:
        """Normed features of layers and positions, [B, K, C] each -> [L, B, K, E] float32."""
        decoders = zip(self.decoders, layers, strict=True)
        return jnp.stack([decoder(x + codes) for decoder, x in decoders])

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer decay: see `encoder_layer_id`."""
        return encoder_layer_id(path, self.depth)


class UmtClassifier(UmtFields, kw_only=True):
    """A classifier on UMT's encoder: LayerNorm of the mean of tokens, linear head.

    Attributes:
      num_classes: K; None: no head, the normed mean is returned.

    The rest is of the encoder, too, see `UmtFields`. The position table is never trained: the
    official code cuts its gradient, also where it is stored as a parameter.
    """

    num_classes: int | None = 400

    def setup(self):
        """Builds the layers."""
        self.encoder = UmtEncoder(**encoder_fields(self))
        self.fc_norm = LayerNorm(dtype=self.dtype, epsilon=EPSILON)
        if self.num_classes is not None:
            small = nn.initializers.normal(0.02 * 0.001)  # the reference's init_scale
            self.head = nn.Dense(self.num_classes, kernel_init=small, dtype=self.dtype)

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        return_features: bool = False,
        train: bool = False,
        merge: Sequence[float] = (),
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Classifies clips.

        Args:
          video_or_tokens, merge, train: see `UmtEncoder`.
          budget: tokens kept a clip, those that change most; None: all.
          return_features: also return what the head reads.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, C] float32.
          Without a head only these.

        Raises:
          ValueError: on a wrong shape or merge schedule, or `return_features` without a head.
        """
        visible = None if budget is None else self.encoder.changing(video_or_tokens, budget)
        x = self.encoder(video_or_tokens, merge, visible, train).layers[-1]
        features = self.fc_norm(masked_mean(x, None)).astype(jnp.float32)
        if self.num_classes is None:
            check_headless(return_features)
            return features
        logits = self.head(features).astype(jnp.float32)
        return (logits, features) if return_features else logits

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained."""
        return path[-1] == "position_table"

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer decay: see `encoder_layer_id`."""
        return encoder_layer_id(path, self.depth)
