"""Optimizers with a learning rate for each group and gradient accumulation, of optax parts."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
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
    """The schedule of a training config, optimizer update -> learning rate.

    Rates are given per 256 clips and scaled by the clips of an update, batch_size *
    optim.accumulate_steps. The config counts total_steps and warmup_steps in batches read; the
    schedule has as many updates as these make.
    """
    optim, accumulated = config.optim, config.optim.accumulate_steps
    scale = config.batch_size * accumulated / 256
    return warmup_cosine(
        optim.lr * scale,
        optim.end_lr * scale,
        config.total_steps // accumulated,
        optim.warmup_steps // accumulated,
        optim.warmup_lr * scale,
    )


def _adamw(
    optim: ConfigDict, decay: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    """Adam's update and, beside it, the decay."""
    return optax.scale_by_adam(optim.b1, optim.b2, optim.eps), decay


def _lion(
    optim: ConfigDict, decay: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    """The sign of a mean of gradients (arXiv 2302.06675) and, beside it, the decay."""
    return optax.scale_by_lion(optim.b1, optim.b2), decay


# (config.optim, weight decay of the groups) -> the steps from a gradient to an update of rate 1
RULES: Mapping[str, Callable[..., tuple[optax.GradientTransformation, ...]]] = (
    types.MappingProxyType({"adamw": _adamw, "lion": _lion})
)


def make_optimizer(
    config: ConfigDict, groups: Any, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """One of `RULES` over the trained parameters.

    With optim.accumulate_steps = k > 1, k - 1 steps in a row change nothing but the mean of the
    gradients, and every k-th makes an update from it: for a loss that is a mean over clips, the
    update of one batch k times as large. Clipping applies to the mean.

    Args:
      config: uses `optim.name` and the keys of that rule, `weight_decay`, `clip_norm` (None: no
        clipping) and `accumulate_steps`.
      groups: tree of `ParamGroup` like the trained parameters.
      schedule: optimizer update -> learning rate of a parameter with lr_scale 1.
    """
    optim = config.optim
    scales = jax.tree.map(lambda group: group.lr_scale, groups)
    decay = optax.add_decayed_weights(
        optim.weight_decay, mask=jax.tree.map(lambda group: group.decay, groups)
    )
    steps = [
        *RULES[optim.name](optim, decay),
        optax.stateless(lambda updates, _: jax.tree.map(lambda u, s: u * s, updates, scales)),
        optax.scale_by_learning_rate(schedule),
    ]
    if any(group.bounds for group in jax.tree.leaves(groups)):
        steps.append(_keep_within_bounds(groups))
    if optim.clip_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(optim.clip_norm))
    optimizer = optax.chain(*steps)
    if optim.accumulate_steps == 1:
        return optimizer
    return optax.MultiSteps(optimizer, optim.accumulate_steps).gradient_transformation()


def _keep_within_bounds(groups: Any) -> optax.GradientTransformation:
    """Cuts updates so that no parameter leaves its group's bounds."""

    def cut(update, param, group):
        if group.bounds is None:
            return update
        return jnp.clip(param + update, *group.bounds) - param

    return optax.stateless(lambda updates, params: jax.tree.map(cut, updates, params, groups))


def num_updates(opt_state: Any) -> jax.Array:
    """Optimizer updates made so far, int32 scalar: the schedule's position.

    Args:
      opt_state: of `make_optimizer`'s result.
    """
    if isinstance(opt_state, optax.MultiStepsState):
        return opt_state.gradient_step
    is_schedule = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    nodes = jax.tree.leaves(opt_state, is_leaf=is_schedule)
    (schedule,) = (node for node in nodes if is_schedule(node))
    return schedule.count
