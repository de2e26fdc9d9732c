"""The train state, and the split of parameters into trained and frozen ones."""

from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from fluxjax.models.attention_choice import plain_attention
from fluxjax.tasks.base import Task


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, and the frozen parameters beside it.

    Attributes:
      step: int32 scalar, number of finished steps.
      params: trained parameters, nested dict, float32.
      frozen: parameters without gradient and optimizer state, nested dict.
      mutable: other collections, such as batch statistics.
      opt_state: of `params` only.
      ema: exponential moving average of `params`, or None.
    """

    step: jax.Array
    params: Any
    frozen: Any
    mutable: Any
    opt_state: Any
    ema: Any

    def variables(self, params: Any = None) -> dict[str, Any]:
        """Variables for `Module.apply`, with `params` in the place of the trained ones."""
        params = self.params if params is None else params
        return {"params": merge_params(params, self.frozen), **self.mutable}

    def eval_variables(self) -> dict[str, Any]:
        """Variables to evaluate: the moving average where there is one."""
        return self.variables(self.ema)


def split_params(params: Any, groups: Any) -> tuple[Any, Any]:
    """(trained, frozen) nested dicts by the groups' `frozen`."""
    flat, flat_groups = (flax.traverse_util.flatten_dict(tree) for tree in (params, groups))
    parts = (
        {path: value for path, value in flat.items() if flat_groups[path].frozen == frozen}
        for frozen in (False, True)
    )
    return tuple(flax.traverse_util.unflatten_dict(part) for part in parts)


def merge_params(trained: Any, frozen: Any) -> Any:
    """Inverse of `split_params`."""
    if not frozen:
        return trained
    flat = flax.traverse_util.flatten_dict(trained) | flax.traverse_util.flatten_dict(frozen)
    return flax.traverse_util.unflatten_dict(flat)


def fresh_variables(task: Task, key: jax.Array) -> dict[str, Any]:
    """The task's fresh variables.

    They are traced with plain attention: the few clips that make them need not suit a kernel or a
    mesh that the steps run on, and no parameter depends on it.
    """
    with plain_attention():
        return task.init(key)


def create_state(
    task: Task, optimizer: optax.GradientTransformation, key: jax.Array, use_ema: bool
) -> TrainState:
    """A fresh state at step 0; jit it with out_shardings to create it in its place."""
    return state_of(task, optimizer, fresh_variables(task, key), use_ema)


def state_of(
    task: Task, optimizer: optax.GradientTransformation, variables: Any, use_ema: bool
) -> TrainState:
    """The state at step 0 that starts from given variables."""
    variables = dict(variables)
    params = variables.pop("params")
    trained, frozen = split_params(params, task.groups(params))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=trained,
        frozen=frozen,
        mutable=variables,
        opt_state=optimizer.init(trained),
        # A copy: the step donates its input, and one buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, trained) if use_ema else None,
    )
