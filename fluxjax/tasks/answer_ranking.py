"""Which of some answers answers a question: of a list in two rounds, of a few options at once.

Sources: ALBEF (arXiv 2107.07651, section 3.4); OpenGVLab/unmasked_teacher, multi_modality,
rank_answer.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fluxjax.models.umt import Umt
from fluxjax.tasks.umt_losses import answer_log_probs

CHUNK = 16


class Ranked(NamedTuple):
    """The best answers, the first one first: ids [B, K] int32 and probabilities [B, K] float32."""

    ids: jax.Array
    probabilities: jax.Array


def rank_answers(
    model: Umt,
    variables: Mapping[str, Any],
    states: jax.Array,
    mask: jax.Array,
    answer_ids: jax.Array,
    answer_mask: jax.Array,
    count: int,
    first_token_twice: bool = True,
    chunk: int = CHUNK,
) -> Ranked:
    """Ranks answers to encoded questions.

    The `count` answers whose first word is the most probable are scored by the probability of all
    their words; probabilities are among these.

    Args:
      model, variables: with an answer decoder.
      states: [B, L, C] from `Umt.encode_question`.
      mask: [B, L] of the questions, 0 for padding.
      answer_ids: [A, M] int32, the list; [CLS], the words, [SEP], padding.
      answer_mask: [A, M], 0 for padding.
      count: K, answers of the second round.
      first_token_twice: the official score, which adds the first word's log-probability of the
        first round to the answer's, of which it is a part. False: the answer's alone.
      chunk: answers of every question that are decoded at a time; logits of all would be large.
    """
    decode = lambda *x: model.apply(variables, *x, method="answer_logits")  # noqa: E731
    answer_ids, answer_mask = jnp.asarray(answer_ids), jnp.asarray(answer_mask)
    questions, count = len(states), min(count, len(answer_ids))
    start = jnp.broadcast_to(answer_ids[:1, :1], (questions, 1))
    first = jax.nn.log_softmax(decode(start, jnp.ones_like(start), states, mask)[:, 0])
    # Of equal first words the answer earlier in the list: top_k is stable.
    first, chosen = jax.lax.top_k(first[:, answer_ids[:, 1]], count)

    def scored(some: jax.Array) -> jax.Array:
        """Log-probabilities [B, chunk] of answers, by number."""
        ids, seen = (x[some].reshape(some.size, -1) for x in (answer_ids, answer_mask))
        return answer_log_probs(decode(ids, seen, states, mask), ids, seen).reshape(some.shape)

    parts = -(-count // chunk)
    filled = jnp.pad(chosen, ((0, 0), (0, parts * chunk - count)))
    score = jax.lax.map(scored, jnp.moveaxis(filled.reshape(questions, parts, chunk), 1, 0))
    score = jnp.moveaxis(score, 0, 1).reshape(questions, -1)[:, :count]
    if first_token_twice:
        score = score + first
    probabilities, order = jax.lax.top_k(jax.nn.softmax(score), count)
    return Ranked(jnp.take_along_axis(chosen, order, axis=1), probabilities)


def choice_scores(logits: jax.Array, cosines: jax.Array, temperature: jax.Array) -> jax.Array:
    """Scores of multiple choice, [B, O] float32: 0.7 matching, 0.3 contrast among the options.

    Args:
      logits: [B, O, 2] of `Umt.match` of a video with each of O options.
      cosines: [B, O] of their embeddings.
      temperature: [], `Umt.clamped_temperature`.
    """
    matching = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[..., 1]
    return 0.7 * matching + 0.3 * jax.nn.softmax(cosines / temperature, axis=-1)
