"""Multi-view evaluation at several budgets and grids, every video counted once."""

import csv
import dataclasses
import io
import json
import logging
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.compute import forward_gmacs, wilson_interval
from fluxjax.evaluation.tables import markdown_table, replace_text
from fluxjax.evaluation.views import mean_probabilities, top_k_hits
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid
from fluxjax.training import mesh as meshes
from fluxjax.training.progress import LOG_SECONDS

log = logging.getLogger(__name__)

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the result table.

    Attributes:
      budget: tokens kept a clip.
      grid: FRAMESxRESOLUTION.
      tokens: tokens the grid has.
      views: clips x crops a video.
      gmacs: giga multiply-accumulates a view.
      top1, top5: shares in [0, 1].
      top1_low, top1_high: 95 % interval of top1.
      clips_per_second: views through the model, median over batches, without decoding.
      videos: counted.
    """

    budget: int
    grid: str
    tokens: int
    views: int
    gmacs: float
    top1: float
    top5: float
    top1_low: float
    top1_high: float
    clips_per_second: float
    videos: int


class Evaluator:
    """Evaluates variables on grids x budgets; one compiled program serves equal plans."""

    def __init__(
        self,
        task: Task,
        mesh: jax.sharding.Mesh,
        grids: Sequence[Grid],
        budgets: Sequence[int],
        batches: Callable[[Grid], Iterator[HostBatch]],
    ):
        """Plans the table.

        Args:
          task: predicts.
          mesh: batches are cut over its devices.
          grids: sampling grids of the table.
          budgets: a grid is evaluated at those that it can fill, or with all its tokens where it
            has fewer than the smallest.
          batches: grid -> host batches as `data_pipelines.loader.eval_batches` yields them.
        """
        self._task, self._mesh, self._batches = task, mesh, batches
        self._grids = tuple(grids)
        self._names = tuple(name for name in task.batch_spec(1) if name != "label")
        self._budgets = tuple(sorted(set(budgets), reverse=True))
        self._programs: dict[Plan, Any] = {}
        self._gmacs: dict[tuple[Grid, int], float] = {}

    def points(self, grid: Grid) -> tuple[int, ...]:
        """Budgets at which a grid is evaluated."""
        tokens = grid.tokens(self._task.patch)
        return tuple(b for b in self._budgets if b <= tokens) or (tokens,)

    def run(self, variables: Any) -> list[Row]:
        """Evaluates every grid at its budgets; logs progress; returns the table's rows."""
        rows = []
        for grid in self._grids:
            rows += self._run_grid(variables, grid)
        return sorted(rows, key=lambda row: (-row.budget, -row.tokens))

    def _run_grid(self, variables: Any, grid: Grid) -> list[Row]:
        points = self.points(grid)
        sums = {budget: np.zeros(3) for budget in points}
        seconds: dict[int, list[float]] = {budget: [] for budget in points}
        views, start = 1, time.perf_counter()
        logged = start
        batches = self._batches(grid)
        for batch in batches:
            views = batch[self._names[0]].shape[1]
            placed = meshes.put_batch(
                {k: v for k, v in batch.items() if k != "example"}, self._mesh
            )
            for budget in points:
                plan = self._task.eval_plan(grid, budget)
                program = self._program(plan, variables, placed)
                began = time.perf_counter()
                sums[budget] += jax.device_get(program(variables, placed))
                seconds[budget].append(time.perf_counter() - began)
            clips = batch["label"].shape[0] * views
            if time.perf_counter() - logged > LOG_SECONDS:
                logged, done = time.perf_counter(), sums[points[0]][2]
                log.info("%s: %d videos, %.1f a second", grid, done, done / (logged - start))
        log.info(
            "evaluated %d videos on %s at %s tokens in %.0f s",
            sums[points[0]][2], grid, "/".join(map(str, points)), time.perf_counter() - start,
        )  # fmt: skip
        return [
            self._row(grid, budget, views, sums[budget], clips, seconds[budget])
            for budget in points
        ]

    def _row(self, grid: Grid, budget: int, views: int, sums, clips: int, seconds) -> Row:
        top1, top5, videos = (float(x) for x in sums)
        low, high = wilson_interval(top1, videos)
        if (grid, budget) not in self._gmacs:
            self._gmacs[grid, budget] = forward_gmacs(self._task, grid, budget)
        return Row(
            budget=budget,
            grid=str(grid),
            tokens=grid.tokens(self._task.patch),
            views=views,
            gmacs=self._gmacs[grid, budget],
            top1=top1 / videos,
            top5=top5 / videos,
            top1_low=low,
            top1_high=high,
            clips_per_second=clips / statistics.median(seconds),
            videos=round(videos),
        )

    def _program(self, plan: Plan, variables: Any, batch: Any):
        """(variables, batch) -> [3] float32: hits at 1, hits at 5, videos."""
        if plan not in self._programs:
            function = jax.jit(
                lambda variables, batch: self._hits(variables, batch, plan),
                out_shardings=meshes.replicated(self._mesh),
            )
            self._programs[plan] = function.lower(variables, batch).compile()
        return self._programs[plan]

    def _hits(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> jax.Array:
        videos, views = batch[self._names[0]].shape[:2]
        merged = {k: batch[k].reshape(videos * views, *batch[k].shape[2:]) for k in self._names}
        logits = self._task.predict(variables, merged, plan).reshape(videos, views, -1)
        probabilities = mean_probabilities(logits, jnp.ones((videos, views), bool))
        weight = batch["weight"]
        hits = [jnp.sum(weight * top_k_hits(probabilities, batch["label"], k)) for k in (1, 5)]
        return jnp.stack([*hits, jnp.sum(weight)])


def format_table(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    head = ("budget", "grid", "GMACs", "top-1 (95 % interval)", "top-5", "clips/s")
    body = [
        (
            str(row.budget),
            row.grid,
            f"{row.gmacs:.3g}",
            f"{row.top1:.1%} ({row.top1_low:.1%} to {row.top1_high:.1%})",
            f"{row.top5:.1%}",
            f"{row.clips_per_second:.1f}",
        )
        for row in rows
    ]
    return markdown_table(head, body)


def write_table(rows: Sequence[Row], workdir: pathlib.Path, step: int) -> None:
    """Writes evaluation.json and evaluation.csv, whole or not at all."""
    records = [dataclasses.asdict(row) for row in rows]
    text = json.dumps({"step": step, "rows": records}, indent=2) + "\n"
    replace_text(workdir / "evaluation.json", text)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    replace_text(workdir / "evaluation.csv", table.getvalue())
