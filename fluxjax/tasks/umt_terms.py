"""Loss terms of UMT's three objectives: pre-training, retrieval, question answering.

Source: OpenGVLab/unmasked_teacher, multi_modality/models. All weights are 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fluxjax.models.umt import Umt
from fluxjax.tasks.umt_losses import (
    Negatives,
    answer_log_probs,
    answer_loss,
    hard_negatives,
    mlm_loss,
    similarity,
    unit,
    uta_loss,
    vtc_loss,
    vtm_loss,
)

Terms = dict[str, jax.Array]


class Texts(NamedTuple):
    """A batch of texts: ids [B, L] int32, and mask [B, L], 0 for padding."""

    ids: jax.Array
    mask: jax.Array


class Applied:
    """A model with its variables: `applied("match", ..)` runs that method in training or not."""

    def __init__(self, model: Umt, variables: Mapping[str, Any], key: jax.Array | None = None):
        """Dropout and drop paths are drawn from `key`; None: none are."""
        self.model, self.variables, self.key = model, variables, key
        self._calls = 0

    def __call__(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The method's result, whose shape it tells, such as [B, 2]."""
        self._calls += 1
        if self.key is None:
            return self.model.apply(self.variables, *arguments, **options, method=method)
        rngs = {"dropout": jax.random.fold_in(self.key, self._calls)}
        options["train"] = True
        return self.model.apply(self.variables, *arguments, **options, rngs=rngs, method=method)


def scores(
    model: Umt, variables: Mapping[str, Any], pooled: jax.Array, text: jax.Array
) -> jax.Array:
    """Similarity over temperature [B, B'] of pooled videos [B, C] and texts [B', L, C]."""
    get = lambda method, *x: model.apply(variables, *x, method=method)  # noqa: E731
    video, text = get("project_video", pooled), get("project_text", text)
    return similarity(video, text, get("clamped_temperature"))


def matching_loss(
    apply: Applied, tokens: jax.Array, text: jax.Array, mask: jax.Array, negatives: Negatives
) -> jax.Array:
    """VTM, [] float32: right pairs, texts with wrong videos, and videos with wrong texts.

    Args:
      apply: the model.
      tokens: [B, N, C] of videos.
      text: [B, L, C] of texts.
      mask: [B, L], 0 for padding.
      negatives: the wrong partners.
    """
    mask = jnp.asarray(mask)
    texts = jnp.concatenate([text, text, text[negatives.text]])
    masks = jnp.concatenate([mask, mask, mask[negatives.text]])
    videos = jnp.concatenate([tokens, tokens[negatives.video], tokens])
    logits = apply("match", texts, masks, videos)
    found = jnp.concatenate([negatives.found, negatives.found])
    return vtm_loss(logits[: len(text)], logits[len(text) :], found)


def retrieval_terms(
    model: Umt,
    variables: Mapping[str, Any],
    video: jax.Array,
    texts: Texts,
    group: jax.Array,
    key: jax.Array,
    merge: Sequence[float] = (),
) -> Terms:
    """Terms "vtc" and "vtm" of training for retrieval, [] float32 each.

    Args:
      model, variables: to train.
      video: clips [B, T, H, W, 3].
      texts: [B, L], one a clip.
      group: [B] int, see `vtc_loss`.
      key: of negatives, dropout and drop paths.
      merge: schedule, see `UmtEncoder`.
    """
    draw, drop = jax.random.split(key)
    apply = Applied(model, variables, drop)
    tokens, pooled = apply("encode_video", video, merge=merge)
    text = apply("encode_text", *texts)
    similar = scores(model, variables, pooled, text)
    negatives = hard_negatives(draw, similar, group)
    matching = matching_loss(apply, tokens, text, texts.mask, negatives)
    return {"vtc": vtc_loss(similar, group), "vtm": matching}


class Masked(NamedTuple):
    """What is hidden of a batch, and what of it is asked.

    Attributes:
      visible: [B, K] int32, the tokens of clips that are seen.
      teacher: [L, B, K, E], the teacher's features of these.
      ids, labels: [B, L], see `mask_words`.
    """

    visible: jax.Array
    teacher: jax.Array
    ids: jax.Array
    labels: jax.Array


def pretraining_terms(
    apply: Applied,
    video: jax.Array,
    texts: Texts,
    group: jax.Array,
    masked: Masked,
    negatives: Negatives | jax.Array,
) -> Terms:
    """Terms "uta", "vtc", "vtm" and "mlm" of pre-training with text, [] float32 each.

    Args:
      apply: the model to train.
      video: clips [B, T, H, W, 3].
      texts: [B, L], one a clip.
      group: [B] int, see `vtc_loss`.
      masked: what is hidden.
      negatives: the wrong partners, or a key to draw them.
    """
    student = apply("student", video, masked.visible)
    tokens = student.layers[-1].astype(jnp.float32)
    text = apply("encode_text", *texts)
    similar = scores(apply.model, apply.variables, student.pooled, text)
    if not isinstance(negatives, Negatives):
        negatives = hard_negatives(negatives, similar, group)
    hidden = apply("encode_text", masked.ids, texts.mask)
    words = apply("predict_tokens", hidden, texts.mask, tokens)
    return {
        "uta": uta_loss(unit(student.decoded), unit(masked.teacher)),
        "vtc": vtc_loss(similar, group),
        "vtm": matching_loss(apply, tokens, text, texts.mask, negatives),
        "mlm": mlm_loss(words, masked.labels),
    }


def answer_terms(
    apply: Applied,
    video: jax.Array,
    questions: Texts,
    answers: Texts,
    asked: jax.Array,
    weights: jax.Array,
    merge: Sequence[float] = (),
) -> Terms:
    """Term "answer" of question answering, [] float32.

    Args:
      apply: the model to train.
      video: clips [B, T, H, W, 3].
      questions: [B, L], one a clip.
      answers: [A, M], any number a question.
      asked: [A] int, row of the question that each answers.
      weights: [A], see `answer_loss`.
      merge: schedule, see `UmtEncoder`.
    """
    tokens, _ = apply("encode_video", video, merge=merge)
    states = apply("encode_question", *questions, tokens)
    logits = apply("answer_logits", *answers, states[asked], questions.mask[asked])
    log_probs = answer_log_probs(logits, *answers)
    return {"answer": answer_loss(log_probs, weights, len(video))}
