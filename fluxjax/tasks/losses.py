"""Loss terms of classification: cross-entropy with soft targets, and Flux-Multi's alignment."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fluxjax.models.fluxvit import BudgetOutput
from fluxjax.tasks.base import LossOutput


def single_budget_output(
    logits: jax.Array, targets: jax.Array, labels: jax.Array, budget: int | None
) -> LossOutput:
    """Cross-entropy of logits [B, K] to soft targets [B, K], and accuracy on labels [B]."""
    term, metric = ("ce", "top1_all") if budget is None else (f"ce_{budget}", f"top1_{budget}")
    terms = {term: (cross_entropy(logits, targets), 1.0)}
    return LossOutput(terms, {metric: jnp.mean(jnp.argmax(logits, axis=-1) == labels)}, {})


def flux_multi_terms(
    outputs: Sequence[BudgetOutput], targets: jax.Array, budgets: Sequence[int] | None = None
) -> dict[str, tuple[jax.Array, float]]:
    """Loss terms of Flux-Multi, each of weight 1.

    Args:
      outputs: one a budget, largest first.
      targets: [B, K] soft targets.
      budgets: names of the terms; positions 0, 1, .. by default.

    Returns:
      ce_<budget> for every budget and align_<budget> for all but the first, with their weights.
    """
    names = range(len(outputs)) if budgets is None else budgets
    terms = {}
    for name, output in zip(names, outputs, strict=True):
        terms[f"ce_{name}"] = (cross_entropy(output.logits, targets), 1.0)
        if output.aligned is not None:
            terms[f"align_{name}"] = (alignment(output.aligned, outputs[0].features), 1.0)
    return terms


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """mean over B of -sum_K targets * log_softmax(logits), float32; both [B, K]."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.mean(jnp.sum(targets * log_probs, axis=-1))


def alignment(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean smooth-L1 (beta 1) of the unit vectors of both [B, E]; no gradient to the teacher.

    Where no entries differ by more than 1, as in wide features, this is (1 - cosine) / E: at most
    2/768 at E = 768. The factor is the reference's.
    """
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    difference = unit(student) - jax.lax.stop_gradient(unit(teacher))
    small = jnp.abs(difference) < 1.0
    return jnp.mean(jnp.where(small, 0.5 * difference**2, jnp.abs(difference) - 0.5))
