"""Multiply-accumulates of a forward pass, as XLA counts them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun

from fluxjax.models.attention_choice import plain_attention
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid


def forward_gmacs(task: Task, grid: Grid, budget: int | None) -> float:
    """Giga multiply-accumulates of one clip's forward pass at a budget (1 MAC = 2 FLOP).

    Counted by XLA's cost analysis on the program before optimisation, so the figure does not
    depend on the machine. Papers count matrix products only; XLA's figure also has element-wise
    operations, 1 to 3 % more.

    Args:
      task: whose model is counted.
      grid: sampling grid of the clip.
      budget: tokens kept; None or more than the grid has: all.
    """
    side = grid.resolution
    if budget is not None and budget >= grid.tokens(task.model.patch):
        budget = None
    variables = jax.eval_shape(task.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, grid.frames, side, side, 3), jnp.uint8)  # as it is served
    plan = Plan("count", budget)
    forward = jax.jit(lambda variables, video: task.predict(variables, {"video": video}, plan))
    with plain_attention():
        return count_flops(jax.make_jaxpr(forward)(variables, video)) / 2e9


def count_flops(program: Any) -> float:
    """FLOP of a closed jaxpr: XLA's count, in which a loop's body counts once, and its other turns.

    Args:
      program: as `jax.make_jaxpr` gives it; kernels count nothing, see `plain_attention`.
    """
    lowered = jax.jit(jaxpr_as_fun(program)).lower(*program.in_avals)
    return (lowered.cost_analysis() or {}).get("flops", 0.0) + _repeated(program.jaxpr)


def _repeated(jaxpr: Any) -> float:
    """FLOP of the second and later turns of every `lax.scan` in a jaxpr."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            inner = _repeated(body.jaxpr)
            turns = equation.params["length"]
            total += turns * inner + (turns - 1) * (count_flops(body) - inner)
            continue
        for value in _run_here(equation.params).values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    total += _repeated(part)
    return total


def _run_here(params: dict[str, Any]) -> dict[str, Any]:
    """An equation's parameters, of `lax.platform_dependent` with the branch of this platform."""
    platforms = params.get("branches_platforms")
    if platforms is None:
        return params
    here = [i for i, names in enumerate(platforms) if names and jax.default_backend() in names]
    number = here[0] if here else platforms.index(None)
    return params | {"branches": params["branches"][number : number + 1]}


def wilson_interval(hits: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson's score interval)."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Rounding must put neither the share outside, which is a bound at 0 and 1, nor the bounds.
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return min(max(low, 0.0), share), max(min(high, 1.0), share)
