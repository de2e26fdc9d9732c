"""Held-out loss: the task's losses on test videos, a value for every video."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table, scalar_name
from fluxjax.evaluation.passes import Passes, mean_over_views
from fluxjax.tasks.base import Plan, Task, batch_spec
from fluxjax.tokens.examples import PER_VIDEO
from fluxjax.tokens.grids import Grid, parse_grid

COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column("loss", lambda row: row["loss"]),
    Column("mean", lambda row: f"{row['mean']:.4f}"),
)


class HeldOutLoss:
    """`task.losses` on `config.eval.grids` x budgets: the mean over videos, views averaged.

    Videos that cannot be read have no loss: they are named, and left out of the mean.
    """

    name, splits = "held_out", ("test",)

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """LOSS_BUDGET@GRID of every row; less is better. Traces the losses for their names."""
        variables = jax.eval_shape(task.init, jax.random.key(0))
        names = {}
        for grid in map(parse_grid, task.config.eval.grids):
            batch = batch_spec(task.eval_example(grid), 1)
            batch["example"] = jax.ShapeDtypeStruct((1,), jnp.int32)
            for budget, plan in task.eval_plans(grid).items():
                losses = jax.eval_shape(functools.partial(task.losses, plan=plan), variables, batch)
                names |= {scalar_name(loss, budget, grid): False for loss in losses}
        return names

    def run(self, variables: Any) -> Table:
        """A row for every loss at every budget and grid."""
        rows, unreadable, videos = [], np.zeros(0, np.int64), 0
        for grid in self._passes.grids():
            found, bad, videos = self._run_grid(variables, grid)
            rows += found
            unreadable = np.union1d(unreadable, bad)
        return Table(
            name=self.name,
            file=self.name,
            title=f"held-out loss of {videos} videos",
            columns=COLUMNS,
            rows=tuple(rows),
            scalars={scalar_name(r["loss"], r["budget"], r["grid"]): r["mean"] for r in rows},
            videos=videos,
            unreadable=self._passes.names("test", unreadable),
        )

    def _run_grid(self, variables: Any, grid: Grid) -> tuple[list[dict], np.ndarray, int]:
        plans = self._task.eval_plans(grid)
        sums: dict[int | None, dict[str, np.ndarray]] = {budget: {} for budget in plans}
        run = self._passes.run(self._sums, plans, grid, variables)
        for outputs in run:
            for budget, output in outputs.items():
                for loss, value in output.value.items():
                    sums[budget][loss] = sums[budget].get(loss, 0.0) + np.float64(value)
        rows = [
            {"budget": budget, "grid": str(grid), "loss": loss, "views": run.views,
             "mean": float(total / count) if count else float("nan"), "videos": round(videos),
             "unreadable": round(videos - count)}
            for budget, losses in sums.items()
            for loss, (total, count, videos) in losses.items()
        ]  # fmt: skip
        return rows, run.unreadable, rows[0]["videos"]

    def _sums(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> dict:
        """name -> [3] float32: sum over readable videos, their number, and that of all videos."""
        clips, videos, views = self._passes.merged(batch)
        shared = {n: jnp.repeat(x, views, axis=0) for n, x in batch.items() if n in PER_VIDEO}
        counted = batch["weight"] * batch["readable"]
        totals = {}
        for loss, values in self._task.losses(variables, clips | shared, plan).items():
            value = jnp.where(counted > 0, mean_over_views(values, videos, views), 0.0)
            sums = [jnp.sum(value), jnp.sum(counted), jnp.sum(batch["weight"])]
            totals[loss] = jnp.stack(sums)
        return totals
