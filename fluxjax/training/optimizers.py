"""Optimizers with a learning rate for each group and gradient accumulation, of optax parts."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def _adamw(
    optim: ConfigDict, decay: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    """Adam's update and, beside it, the decay."""
    return optax.scale_by_adam(optim.b1, optim.b2, optim.eps), decay


def _sgd(
    optim: ConfigDict, decay: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    """PyTorch's SGD: the decay is a part of the gradient and of its momentum."""
    return decay, optax.trace(optim.momentum, optim.nesterov)


def _lion(
    optim: ConfigDict, decay: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    """The sign of a mean of gradients (arXiv 2302.06675) and, beside it, the decay."""
    return optax.scale_by_lion(optim.b1, optim.b2), decay


# (config.optim, weight decay of the groups) -> the steps from a gradient to an update of rate 1
RULES: Mapping[str, Callable[..., tuple[optax.GradientTransformation, ...]]] = (
    types.MappingProxyType({"adamw": _adamw, "lion": _lion, "sgd": _sgd})
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
