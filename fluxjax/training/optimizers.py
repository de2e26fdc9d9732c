"""AdamW with layer-wise learning rates, built from optax parts."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def warmup_cosine(
    peak: float, end: float, total_steps: int, warmup_steps: int, start: float = 0.0
) -> optax.Schedule:
    """Linear warm-up that includes both ends, then a half cosine.

    Steps 0 .. W-1 go from `start` to `peak`; step W is at `peak` again, and `end` would be reached
    at step `total_steps` (as the official FluxViT and its ancestors do).

    Raises:
      ValueError: if the warm-up is longer than the training.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warm-up of {warmup_steps} steps does not fit {total_steps} steps")
    decay_steps = max(total_steps - warmup_steps, 1)
    alpha = end / peak if peak else 0.0
    cosine = optax.cosine_decay_schedule(peak, decay_steps, alpha=alpha)
    if not warmup_steps:
        return cosine
    warmup = optax.linear_schedule(start, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([warmup, cosine], [warmup_steps])


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The schedule of a training config; rates are given per 256 clips and scaled by the batch."""
    optim, scale = config.optim, config.batch_size / 256
    return warmup_cosine(
        optim.lr * scale,
        optim.end_lr * scale,
        config.total_steps,
        optim.warmup_steps,
        optim.warmup_lr * scale,
    )


def make_optimizer(
    config: ConfigDict, groups: Any, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW over the trained parameters.

    Args:
      config: uses `optim.b1`, `b2`, `eps`, `weight_decay` and `clip_norm` (None: no clipping).
      groups: tree of `ParamGroup` like the trained parameters.
      schedule: learning rate of a parameter with lr_scale 1.
    """
    optim = config.optim
    scales = jax.tree.map(lambda group: group.lr_scale, groups)
    steps = [
        optax.scale_by_adam(optim.b1, optim.b2, optim.eps),
        optax.add_decayed_weights(
            optim.weight_decay, mask=jax.tree.map(lambda group: group.decay, groups)
        ),
        optax.stateless(lambda updates, _: jax.tree.map(lambda u, s: u * s, updates, scales)),
        optax.scale_by_learning_rate(schedule),
    ]
    if optim.clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(optim.clip_norm))
    return optax.chain(*steps)
