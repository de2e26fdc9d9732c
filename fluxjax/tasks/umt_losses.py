"""UMT's losses: features of a teacher, contrast and matching of video and text, masked words.

Sources: "Unmasked Teacher" (arXiv 2303.16058, section 3), OpenGVLab/unmasked_teacher; VTC, VTM and
MLM as in ALBEF (arXiv 2107.07651). Batches are whole ones: over a mesh, features and negatives come
from all devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

IGNORED = -100  # label of a token that no loss counts
UTA_KINDS = ("l2", "mse", "smooth_l1")


def unit(x: jax.Array) -> jax.Array:
    """Vectors of 2-norm 1: [.., E] -> [.., E] float32."""
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def vector_distance(student: jax.Array, teacher: jax.Array, kind: str = "l2") -> jax.Array:
    """How far a student's vectors are from its teacher's, [..] float32.

    Args:
      student, teacher: [.., E], of unit norm for "l2" (see `unit`); no gradient flows to the
        teacher.
      kind: one of `UTA_KINDS`: "l2", 2 - 2 cosine, the squared distance of unit vectors; "mse" and
        "smooth_l1" (beta 1) average over channels, too.

    Raises:
      ValueError: on another kind.
    """
    if kind not in UTA_KINDS:
        raise ValueError(f"unknown loss {kind!r}; choose one of {UTA_KINDS}")
    teacher = jax.lax.stop_gradient(teacher)
    if kind == "l2":
        return 2.0 - 2.0 * jnp.sum(student.astype(jnp.float32) * teacher, axis=-1)
    difference = student.astype(jnp.float32) - teacher
    if kind == "mse":
        return jnp.mean(jnp.square(difference), axis=-1)
    size = jnp.abs(difference)
    return jnp.mean(jnp.where(size < 1.0, 0.5 * size * size, size - 0.5), axis=-1)


def uta_loss(student: jax.Array, teacher: jax.Array, kind: str = "l2") -> jax.Array:
    """How far a student's features are from its teacher's (UMT, section 3.2), [] float32.

    Args:
      student, teacher: [L, B, K, E], see `vector_distance`.
      kind: see there.
    """
    return jnp.mean(vector_distance(student, teacher, kind))


def similarity(video: jax.Array, text: jax.Array, temperature: jax.Array) -> jax.Array:
    """Cosines over temperature, [B, B'] of videos and texts.

    Args:
      video: [B, E] or, for the mean over frames, [B, T, E], of unit norm.
      text: [B', E], of unit norm.
      temperature: [].
    """
    per_frame = video if video.ndim == 3 else video[:, None]
    return jnp.mean(jnp.einsum("bte,ce->bct", per_frame, text), axis=-1) / temperature


def vtc_loss(scores: jax.Array, group: jax.Array) -> jax.Array:
    """Contrast of videos and texts in both directions, [] float32.

    Args:
      scores: [B, B], `similarity` of videos and texts.
      group: [B] int; pairs of one group, such as captions of one video, are all right answers.
    """
    same = (group[:, None] == group[None]).astype(jnp.float32)
    targets = same / jnp.sum(same, axis=1, keepdims=True)
    directions = (
        -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(s, axis=1), axis=1))
        for s in (scores, scores.T)
    )
    return sum(directions) / 2


class Negatives(NamedTuple):
    """A wrong partner for each of B pairs, in both directions.

    Attributes:
      video: [B] int32, row of the video that is shown with each text.
      text: [B] int32, row of the text that is shown with each video.
      found: [B] bool, whether there is any wrong partner.
    """

    video: jax.Array
    text: jax.Array
    found: jax.Array


def negative_weights(scores: jax.Array, group: jax.Array) -> jax.Array:
    """How likely each column is to be a row's hard negative, [B, B]; 0 within a group.

    Args:
      scores: [B, B], `similarity` of what is kept with what is replaced.
      group: [B] int, see `vtc_loss`.
    """
    weights = jax.nn.softmax(jax.lax.stop_gradient(scores) + 1e-4, axis=1)
    return jnp.where(group[:, None] == group[None], 0.0, weights)


def hard_negatives(key: jax.Array, scores: jax.Array, group: jax.Array) -> Negatives:
    """Draws the wrong partners by `negative_weights`: similar ones are more likely.

    The official code raises where a row has no weight, as in a batch of captions of one video.

    Args:
      key: of the draws.
      scores: [B, B], `similarity` of videos and texts.
      group: [B] int, see `vtc_loss`.
    """
    same = group[:, None] == group[None]
    rows, columns = jax.random.split(key)

    def draw(key, scores):
        # Log-weights rather than weights, which may be 0 beside a right partner far ahead.
        allowed = jnp.where(same, -jnp.inf, jax.lax.stop_gradient(scores))
        return jax.random.categorical(key, allowed, axis=1).astype(jnp.int32)

    return Negatives(draw(columns, scores.T), draw(rows, scores), ~jnp.all(same, axis=1))


def vtm_loss(
    positive: jax.Array, negatives: jax.Array, found: jax.Array | None = None
) -> jax.Array:
    """Cross-entropy of matching, [] float32.

    Args:
      positive: [B, 2] logits of pairs that belong together.
      negatives: [B', 2] logits of pairs that do not.
      found: [B'] bool, whether that pair exists; None: all do.
    """
    found = jnp.ones(len(negatives), bool) if found is None else found
    right = jax.nn.log_softmax(positive)[:, 1]
    wrong = jnp.where(found, jax.nn.log_softmax(negatives)[:, 0], 0.0)
    return -(jnp.sum(right) + jnp.sum(wrong)) / (len(positive) + jnp.sum(found))


def mask_words(
    keys: jax.Array,
    ids: jax.Array,
    mask: jax.Array,
    vocabulary: int,
    mask_id: int,
    share: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Hides words: 80 % of the chosen become [MASK], 10 % another word, 10 % stay.

    Args:
      keys: [B], of each text's draws.
      ids: [B, L] int32; the first token of a text, [CLS], is never chosen.
      mask: [B, L], 0 for padding, which is never chosen.
      vocabulary: number of ids to draw from.
      mask_id: of [MASK].
      share: of words to choose; UMT's is a half.

    Returns:
      ids [B, L] to show, and labels [B, L], `IGNORED` where nothing is asked.
    """
    length = ids.shape[1:]

    def draws(key):
        choose, what, word = jax.random.split(key, 3)
        return (
            jax.random.bernoulli(choose, share, length),
            jax.random.uniform(what, length),
            jax.random.randint(word, length, 0, vocabulary, ids.dtype),
        )

    chosen, lot, other = jax.vmap(draws)(keys)
    chosen = chosen & (mask > 0) & (jnp.arange(ids.shape[1]) > 0)
    shown = jnp.where(lot < 0.8, jnp.asarray(mask_id, ids.dtype), jnp.where(lot < 0.9, other, ids))
    return jnp.where(chosen, shown, ids), jnp.where(chosen, ids, IGNORED)


def token_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of every token [.., L], 0 where the label is `IGNORED`.

    Args:
      logits: [.., L, V].
      labels: [.., L] int.
    """
    asked = labels != IGNORED
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    taken = jnp.take_along_axis(log_probs, jnp.where(asked, labels, 0)[..., None], axis=-1)
    return jnp.where(asked, -taken[..., 0], 0.0)


def mlm_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of hidden words, [] float32; logits [B, L, V], labels [B, L]."""
    asked = jnp.sum(labels != IGNORED)
    return jnp.sum(token_loss(logits, labels)) / jnp.maximum(asked, 1)


def answer_log_probs(logits: jax.Array, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-probability [B] of answers: the sum over their tokens after the first, [CLS].

    Args:
      logits: [B, A, V], what comes after each token, see `Umt.answer_logits`.
      ids: [B, A] int.
      mask: [B, A], 0 for padding.
    """
    labels = jnp.where(mask[:, 1:] > 0, ids[:, 1:], IGNORED)
    return -jnp.sum(token_loss(logits[:, :-1], labels), axis=1)


def answer_loss(log_probs: jax.Array, weights: jax.Array, questions: int) -> jax.Array:
    """Loss of question answering, [] float32.

    Args:
      log_probs: [A] from `answer_log_probs`, of all answers to the questions of a batch.
      weights: [A], how many people gave that answer, as shares of a question's answers.
      questions: number of questions.
    """
    return -jnp.sum(weights * log_probs) / questions
