"""UMT: video and text in one space, and fused to tell whether they match.

Sources: "Unmasked Teacher: Towards Training-Efficient Video Foundation Models" (arXiv 2303.16058),
OpenGVLab/unmasked_teacher, multi_modality; mlvlab/vid-TLDR, which merges tokens in its encoder.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.bert import Bert
from fluxjax.models.layers import linear_init, unit
from fluxjax.models.umt_encoder import UmtFields, encoder_fields, encoder_layer_id
from fluxjax.models.umt_vision import Student, UmtVision
from fluxjax.tokens.tokens import Tokens

TEMPERATURES = (0.001, 0.5)  # what the official training clamps its temperature to


class Umt(UmtFields, kw_only=True):
    """UMT of video and text, for retrieval, pre-training and answers to questions.

    Attributes:
      num_classes: not used; every model of the registry has it.
      embedding: E, of the space that videos and texts share; None: no projections, no temperature
        and no matching head, as in question answering.
      vocabulary, text_width, text_depth, text_heads, text_hidden, text_length: of the text encoder,
        see `Bert`.
      fusion_layer: its first layer that attends to the video.
      text_dropout, text_init_std: of the text encoder and of the decoder of answers, see `Bert`.
      answer_layers: of a causal decoder of answers, which attends to the encoded question; 0: there
        is none.
      token_head: the text encoder predicts masked tokens.
      taught_layers, taught_interval, taught_width: see `UmtVision`.

    The rest is of the video encoder, see `UmtFields`.
    """

    num_classes: int | None = None
    embedding: int | None = 512
    vocabulary: int = 30522
    text_width: int = 768
    text_depth: int = 12
    text_heads: int = 12
    text_hidden: int = 3072
    text_length: int = 512
    fusion_layer: int = 9
    text_dropout: float = 0.1
    text_init_std: float = 0.02
    answer_layers: int = 0
    token_head: bool = False
    taught_layers: int = 0
    taught_interval: float = 1.0
    taught_width: int = 512

    @property
    def vision_fields(self) -> dict[str, Any]:
        """Fields of the `UmtVision` inside."""
        return encoder_fields(self) | {
            "pooling_norm": self.embedding is not None,
            "taught_layers": self.taught_layers,
            "taught_interval": self.taught_interval,
            "taught_width": self.taught_width,
            "decoder_epsilon": 1e-5,
        }

    @property
    def text_fields(self) -> dict[str, Any]:
        """Fields of the `Bert` that encodes texts."""
        return {
            "vocabulary": self.vocabulary,
            "width": self.text_width,
            "depth": self.text_depth,
            "num_heads": self.text_heads,
            "hidden": self.text_hidden,
            "max_length": self.text_length,
            "fusion_layer": self.fusion_layer,
            "token_head": self.token_head,
            "dropout": self.text_dropout,
            "init_std": self.text_init_std,
            "dtype": self.dtype,
        }

    @property
    def answer_fields(self) -> dict[str, Any]:
        """Fields of the `Bert` that gives answers: it attends to the question in every layer."""
        own = {"depth": self.answer_layers, "fusion_layer": 0, "token_head": True}
        return self.text_fields | own

    def setup(self):
        """Builds the parts."""
        self.vision = UmtVision(**self.vision_fields)
        self.text = Bert(**self.text_fields)
        if self.answer_layers:
            self.answers = Bert(**self.answer_fields)
        if self.embedding is not None:
            dense = {"kernel_init": linear_init, "dtype": self.dtype}
            self.vision_proj = nn.Dense(self.embedding, **dense)
            self.text_proj = nn.Dense(self.embedding, **dense)
            self.match_head = nn.Dense(2, **dense)
            self.temperature = self.param("temperature", nn.initializers.constant(0.07), ())

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        ids: jax.Array | None = None,
        mask: jax.Array | None = None,
        merge: Sequence[float] = (),
        train: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Embeds videos and texts.

        Args:
          video_or_tokens, merge, train: see `UmtVision`.
          ids: [B, L] int32, tokens of texts; None: videos alone.
          mask: [B, L], 0 for padding; None: no padding.

        Returns:
          Unit embeddings ([B, E], [B, E]) float32 of videos and texts, or [B, E] of videos alone.
          A model without projections gives pooled videos [B, C].

        Raises:
          ValueError: on texts for a model without projections.
        """
        tokens, pooled = self.vision(video_or_tokens, merge, train)
        if self.is_initializing():
            self._every_part(tokens, jnp.zeros((len(tokens), 2), jnp.int32))
        if self.embedding is None:
            if ids is not None:
                raise ValueError("embedding=None: this model embeds no texts; call its methods")
            return pooled
        video = self.project_video(pooled)
        if ids is None:
            return video
        mask = jnp.ones(ids.shape, jnp.int32) if mask is None else mask
        return video, self.project_text(self.encode_text(ids, mask, train))

    def encode_video(
        self,
        video_or_tokens: jax.Array | Tokens,
        merge: Sequence[float] = (),
        train: bool = False,
        visible: jax.Array | None = None,
        pool_by_mass: bool = False,
        per_frame: bool = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Tokens [B, N, C] and pooled [B, C] (`per_frame`: [B, T, C]) of clips, see `UmtVision`."""
        return self.vision(video_or_tokens, merge, train, visible, pool_by_mass, per_frame)

    def student(
        self, video_or_tokens: jax.Array | Tokens, visible: jax.Array, train: bool = False
    ) -> Student:
        """What is compared with a teacher, [L, B, K, E], and the rest; see `UmtVision.student`."""
        return self.vision.student(video_or_tokens, visible, train)

    def encode_text(self, ids: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """Texts alone: ids [B, L] int32, mask [B, L], 0 for padding -> [B, L, C] float32."""
        return self.text.encode(ids, mask, train).astype(jnp.float32)

    def fuse(
        self, text: jax.Array, mask: jax.Array, video: jax.Array, train: bool = False
    ) -> jax.Array:
        """Texts that have seen a video: [B, L, C] of `encode_text`, [B, N, D] -> [B, L, C]."""
        return self.text.fuse(text, mask, video, train=train).astype(jnp.float32)

    def match(
        self, text: jax.Array, mask: jax.Array, video: jax.Array, train: bool = False
    ) -> jax.Array:
        """Whether text and video belong together.

        Args:
          text: [B, L, C] from `encode_text`.
          mask: [B, L], 0 for padding.
          video: [B, N, D] tokens from `encode_video`; or [B / R, N, D], each for R texts in a row.
          train: dropout is active.

        Returns:
          logits [B, 2] float32; 1 is a match.
        """
        fused = self.fuse(text, mask, video, train)
        return self.match_head(fused[:, 0]).astype(jnp.float32)

    def project_video(self, pooled: jax.Array) -> jax.Array:
        """Unit vectors [.., E] float32 of pooled videos [.., C]."""
        return unit(self.vision_proj(pooled))

    def project_text(self, text: jax.Array) -> jax.Array:
        """Unit vectors [B, E] float32 of texts [B, L, C], from their first token."""
        return unit(self.text_proj(text[:, 0]))

    def clamped_temperature(self) -> jax.Array:
        """The temperature [] float32 that similarities are divided by in training."""
        return jnp.clip(self.temperature, *TEMPERATURES)

    def predict_tokens(
        self, text: jax.Array, mask: jax.Array, video: jax.Array, train: bool = False
    ) -> jax.Array:
        """Logits [B, L, vocabulary] float32 of tokens; arguments [B, L, C], .. as of `match`."""
        return self.text.predict(self.text.fuse(text, mask, video, train=train))

    def encode_question(
        self, ids: jax.Array, mask: jax.Array, video: jax.Array, train: bool = False
    ) -> jax.Array:
        """A question that has seen the video, all layers; arguments as of `match` -> [B, L, C]."""
        return self.text(ids, mask, video, train=train).astype(jnp.float32)

    def answer_logits(
        self,
        ids: jax.Array,
        mask: jax.Array,
        question: jax.Array,
        question_mask: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """What comes after each token of an answer.

        Args:
          ids: [B, A] int32, tokens of answers.
          mask: [B, A], 0 for padding.
          question: [B, L, C] from `encode_question`; or [B / R, L, C], each for R answers in a row.
          question_mask: [B, L] or [B / R, L], 0 for padding.
          train: dropout is active.

        Returns:
          logits [B, A, vocabulary] float32.
        """
        decoder = self.answers
        x = decoder.run(
            decoder.embed(ids, train),
            mask,
            question,
            range(self.answer_layers),
            others_mask=question_mask,
            train=train,
            causal=True,
        )
        return decoder.predict(x)

    def _every_part(self, tokens, ids):
        """Gives every part its parameters."""
        question = self.text(ids, None, tokens)
        if self.answer_layers:
            self.answers(ids, None, question)
        if self.embedding is not None:
            self.text_proj(question[:, 0])
            self.match_head(question[:, 0])

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def layer_id(self, path: Sequence[str]) -> int:
        """0 for the video's embedding, i + 1 for its block i, depth + 1 for everything else."""
        return encoder_layer_id(path[1:] if path[0] == "vision" else path, self.depth)
