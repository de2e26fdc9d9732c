"""Multiply-accumulates of a forward pass, as XLA counts them."""

import math

import jax
import jax.numpy as jnp

from fluxjax.grids import Grid
from fluxjax.tasks.base import Plan, Task


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
    if budget is not None and budget >= grid.tokens(task.patch):
        budget = None
    variables = jax.eval_shape(task.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, grid.frames, side, side, 3), jnp.float32)
    plan = Plan("count", budget, task.model.head_for(budget))
    forward = jax.jit(lambda variables, video: task.predict(variables, {"video": video}, plan))
    cost = forward.lower(variables, video).cost_analysis()
    return cost["flops"] / 2e9


def wilson_interval(hits: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson's score interval)."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - spread) / scale, (centre + spread) / scale
