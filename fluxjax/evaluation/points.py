"""At which grids and budgets a run is evaluated."""

from fluxjax.tasks.base import Task
from fluxjax.tokens.grids import Grid, parse_grid


def eval_grids(task: Task) -> tuple[Grid, ...]:
    """The sampling grids of `config.eval.grids`."""
    return tuple(parse_grid(text) for text in task.config.eval.grids)


def eval_budgets(task: Task, grid: Grid) -> tuple[int, ...]:
    """Budgets at which a grid is evaluated, largest first.

    Those of `config.eval.budgets` that it can fill, or all its tokens where it has fewer than the
    smallest.
    """
    tokens = grid.tokens(task.model.patch)
    budgets = sorted(set(task.config.eval.budgets), reverse=True)
    return tuple(budget for budget in budgets if budget <= tokens) or (tokens,)
