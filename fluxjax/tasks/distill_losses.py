"""What distillation minimises: distances of unit vectors.

Source: OpenGVLab/InternVideo, InternVideo2/single_modality, engines for distillation and stage 1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fluxjax.models.internvideo2 import TeacherOutput
from fluxjax.models.students import Aligned, Visible
from fluxjax.tasks.umt_losses import vector_distance

# What a loss is of: name -> its mean over clips, [B].
Parts = dict[str, jax.Array]


def unit_distance(
    student: jax.Array, teacher: jax.Array, valid: jax.Array | None = None, kind: str = "l2"
) -> jax.Array:
    """The distance of unit vectors, averaged a clip: [B] float32.

    Args:
      student: [K, B, n, C] or [B, C], unit vectors.
      teacher: of the same shape; no gradient flows into it.
      valid: [B, n] bool, which tokens count; None: all.
      kind: of distance, see `umt_losses.vector_distance`.
    """
    distance = vector_distance(student, teacher, kind)
    if distance.ndim == 1:
        return distance
    distance = jnp.mean(distance, axis=0)
    if valid is None:
        return jnp.mean(distance, axis=1)
    counted = jnp.where(valid, distance, 0.0)
    return jnp.sum(counted, axis=1) / jnp.maximum(jnp.sum(valid, axis=1), 1)


def aligned_parts(
    aligned: Aligned, taught: TeacherOutput, visible: Visible, kind: str = "l2"
) -> Parts:
    """Losses of a student at one budget: middle, and final where it has that decoder; [B] each.

    Args:
      aligned: of the student, from the visible tokens.
      taught: of all tokens.
      visible: which tokens the student saw, numbered as the teacher's.
      kind: of distance, see `umt_losses.vector_distance`.
    """
    valid, cls = visible.valid, aligned.middle.shape[2] > visible.index.shape[1]
    if valid is not None and cls:
        valid = jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)
    target = at_visible(taught.middle, visible.index, cls)
    parts = {"middle": unit_distance(aligned.middle, target, valid, kind)}
    if aligned.final is not None:
        parts["final"] = unit_distance(aligned.final, taught.final, kind=kind)
    return parts


def mae_part(aligned: Aligned, target: jax.Array, visible: Visible) -> jax.Array:
    """Loss [B] of a student's tokens and a VideoMAE teacher's, [K, B, N, C], without cls."""
    target = at_visible(target, visible.index, cls=False)
    return unit_distance(aligned.mae, target, visible.valid)


def at_visible(features: jax.Array, index: jax.Array, cls: bool) -> jax.Array:
    """A teacher's tokens [K, B, (1+)N, C] at visible ones [B, n]: [K, B, (1+)n, C]; cls stays."""
    if cls:
        index = jnp.pad(index + 1, ((0, 0), (1, 0)))
    return jnp.take_along_axis(features, index[None, :, :, None], axis=2)


def over_budgets(parts: Sequence[Parts], reduce: str) -> Parts:
    """The mean or sum over budgets of each loss.

    Raises:
      ValueError: on another word than "mean" and "sum".
    """
    if reduce not in ("mean", "sum"):
        raise ValueError(f"reduce={reduce!r} is unknown; choose 'mean' or 'sum'")
    scale = 1 / len(parts) if reduce == "mean" else 1.0
    return {name: scale * sum(one[name] for one in parts) for name in parts[0]}
