"""Multiply-accumulates of a forward pass, as XLA counts them."""

import math

import jax
import jax.numpy as jnp

from fluxjax.models.attention_choice import plain_attention
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid
from fluxjax.training.flops import count_flops


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
