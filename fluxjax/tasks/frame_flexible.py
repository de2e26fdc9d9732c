"""Frame flexible networks: one set of weights for several frame numbers of a video.

Source: "Frame Flexible Network" (arXiv 2303.14817) and BeSpontaneous/FFN-pytorch. The clip with the
most frames learns from labels; those with fewer learn its prediction (temporal distillation).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.tasks.base import Batch, LossOutput, Plan
from fluxjax.tasks.classify_dense import ClassifyDenseTask
from fluxjax.tasks.losses import cross_entropy
from fluxjax.tokens.examples import ClipSpec
from fluxjax.tokens.grids import Grid


def frame_flexible_keys() -> ConfigDict:
    """What only this task has: `config.frame_flexible`."""
    own = ConfigDict()
    own.distillation = 1.0  # lambda: weight of each smaller frame number's divergence
    return own


class FrameFlexibleTask(ClassifyDenseTask):
    """Trains a model at all of `config.grids.frames` in every step.

    The clips of a video draw their frames independently and share crop, mirroring, colours and
    mixing. The model has a branch for each number, `frames`, which clips of so many take.
    """

    def _frames(self) -> tuple[int, ...]:
        frames, name = tuple(self.config.grids.frames), self.config.model.name
        if "frames" not in self.config.model:
            raise ValueError(
                f"{name} has no branches for frame numbers; task 'frame_flexible' trains models "
                "such as tsm_r50_ffn"
            )
        if len(frames) < 2 or list(frames) != sorted(set(frames)):
            raise ValueError(
                f"config.grids.frames={frames} must be at least two ascending frame numbers, a "
                "branch each"
            )
        return frames

    def _clips(self) -> tuple[ClipSpec, ...]:
        """Most frames first."""
        side = self._resolution()
        return tuple(
            ClipSpec((Grid(frames, side),), f"frames{frames}")
            for frames in sorted(self.config.grids.frames, reverse=True)
        )

    def check(self) -> None:
        """Also refuses a negative weight.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        super().check()
        weight = self.config.frame_flexible.distillation
        if not weight >= 0:
            raise ValueError(f"config.frame_flexible.distillation={weight} must not be negative")

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms ce and kl_<frames>; metrics top1_<frames> against the unmixed label."""
        videos, targets, key = self._inputs(batch, key)
        logits, mutable = self._forward(variables, videos, key)
        frames = [clip.grids[0].frames for clip in self.clips]
        terms = distillation_terms(logits, targets, frames, self.config.frame_flexible.distillation)
        metrics = {
            f"top1_{number}": jnp.mean(jnp.argmax(x, axis=-1) == batch["label"])
            for number, x in zip(frames, logits, strict=True)
        }
        return LossOutput(terms, metrics, mutable)


def distillation_terms(
    logits: Sequence[jax.Array], targets: jax.Array, frames: Sequence[int], weight: float = 1.0
) -> dict[str, tuple[jax.Array, float]]:
    """Terms of FFN's loss with their weights.

    Args:
      logits: [B, K] of each frame number, the most frames first.
      targets: [B, K], soft.
      frames: the frame numbers, most first.
      weight: lambda.

    Returns:
      ce of the first, and kl_<frames> of each other, KL(q || softmax(its logits)) with
      q = softmax(logits[0]) behind a stop-gradient, a mean over B.
    """
    terms = {"ce": (cross_entropy(logits[0], targets), 1.0)}
    teacher = jax.lax.stop_gradient(jax.nn.log_softmax(logits[0].astype(jnp.float32), axis=-1))
    for number, student in zip(frames[1:], logits[1:], strict=True):
        log_probs = jax.nn.log_softmax(student.astype(jnp.float32), axis=-1)
        divergence = jnp.sum(jnp.exp(teacher) * (teacher - log_probs), axis=-1)
        terms[f"kl_{number}"] = (jnp.mean(divergence), weight)
    return terms
