"""Multi-view classification at several budgets and grids: the table of accuracies."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.answers import Answers
from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table, scalar_name
from fluxjax.evaluation.compute import forward_gmacs, wilson_interval
from fluxjax.evaluation.passes import Passes
from fluxjax.evaluation.views import mean_probabilities, top_k_hits
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid, parse_grid


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the result table.

    Attributes:
      budget: tokens kept a clip; None for models without token budgets.
      grid: FRAMESxRESOLUTION.
      tokens: tokens the grid has; None for models without patches.
      views: clips x crops a video.
      gmacs: giga multiply-accumulates a view.
      top1, top5: shares in [0, 1].
      top1_low, top1_high: 95 % interval of top1.
      clips_per_second: views through the model, median over batches, without decoding.
      videos: counted.
      unreadable: how many of them could not be read, and count as wrong.
    """

    budget: int | None
    grid: str
    tokens: int | None
    views: int
    gmacs: float
    top1: float
    top5: float
    top1_low: float
    top1_high: float
    clips_per_second: float
    videos: int
    unreadable: int


BEST = 5  # classes that are named of every video

COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column("GMACs", lambda row: f"{row['gmacs']:.3g}"),
    Column(
        "top-1 (95 % interval)",
        lambda row: f"{row['top1']:.1%} ({row['top1_low']:.1%} to {row['top1_high']:.1%})",
    ),
    Column("top-5", lambda row: f"{row['top5']:.1%}"),
    Column("clips/s", lambda row: f"{row['clips_per_second']:.1f}"),
)


_FIVE = 5  # classes, up to which all are among the five likeliest


def columns(classes: int) -> tuple[Column, ...]:
    """What the console shows: top-5 only where it says something."""
    return tuple(c for c in COLUMNS if c.head != "top-5" or classes > _FIVE)


def counts(logits: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """[4] float32: videos right at 1, right at 5, all of them, and those that cannot be read.

    Args:
      logits: [V, views, K].
      batch: label [V] int32; weight [V] float32, 0 for padding; readable [V] bool.
    """
    probabilities = mean_probabilities(logits, jnp.ones(logits.shape[:2], bool))
    weight = batch["weight"]
    found = [jnp.sum(weight * top_k_hits(probabilities, batch["label"], k)) for k in (1, 5)]
    return jnp.stack([*found, jnp.sum(weight), jnp.sum(weight * ~batch["readable"])])


class Measured(NamedTuple):
    """Of one batch: `counts`, and of every video the columns of `Answers` and whether it counts."""

    counts: jax.Array
    videos: tuple[jax.Array, ...]


class Classification:
    """Accuracy on `config.eval.grids` x budgets; equal plans share one compiled program."""

    name, splits = "classification", ("test",)

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)
        self._gmacs: dict[tuple[Grid, int | None], float] = {}

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """top1_BUDGET@GRID of every row; more is better."""
        return {
            scalar_name("top1", budget, grid): True
            for grid in map(parse_grid, task.config.eval.grids)
            for budget in task.eval_plans(grid)
        }

    def run(self, variables: Any) -> Table:
        """The table, largest budget first."""
        rows, unreadable, answers = [], np.zeros(0, np.int64), None
        for grid in self._passes.grids():
            found, bad, answered = self._run_grid(variables, grid)
            rows += found
            answers = answers or answered  # the first grid's, at its largest budget
            unreadable = np.union1d(unreadable, bad)
        rows.sort(key=lambda row: (-(row.budget or 0), -(row.tokens or 0)))
        return Table(
            name=self.name,
            file="evaluation",
            title=f"{rows[0].videos} held-out videos",
            columns=columns(self._task.config.num_classes),
            rows=tuple(dataclasses.asdict(row) for row in rows),
            scalars={scalar_name("top1", row.budget, row.grid): row.top1 for row in rows},
            videos=rows[0].videos,
            unreadable=self._passes.names("test", unreadable),
            answers=answers,
            names=self._passes.all_names,
        )

    def _run_grid(self, variables: Any, grid: Grid) -> tuple[list[Row], np.ndarray, Answers]:
        plans = self._task.eval_plans(grid)
        sums = {budget: np.zeros(4) for budget in plans}
        rates: dict[int | None, list[float]] = {budget: [] for budget in plans}
        main, videos = next(iter(plans)), []
        run = self._passes.run(self._measured, plans, grid, variables)
        for outputs in run:
            videos.append(outputs[main].value.videos)
            for budget, output in outputs.items():
                sums[budget] += output.value.counts
                rates[budget].append(output.clips / output.seconds)
        rows = [self._row(grid, b, run.views, sums[b], rates[b]) for b in plans]
        where = str(grid) if main is None else f"{grid} at {main} tokens"
        return rows, run.unreadable, self._answers(videos, where)

    def _measured(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> Measured:
        clips, videos, views = self._passes.merged(batch)
        logits = self._task.predict(variables, clips, plan).reshape(videos, views, -1)
        probabilities = mean_probabilities(logits, jnp.ones(logits.shape[:2], bool))
        probability, best = jax.lax.top_k(probabilities, min(BEST, probabilities.shape[-1]))
        told = best, probability, batch["label"], batch["readable"], batch["weight"] > 0
        return Measured(counts(logits, batch), told)

    def _answers(self, videos: Sequence[tuple[np.ndarray, ...]], where: str) -> Answers:
        columns = [np.concatenate(column) for column in zip(*videos, strict=True)]
        *columns, counted = columns
        classes = self._passes.label_names("test")
        count = self._task.config.num_classes
        return Answers(*(column[counted] for column in columns), classes, count, where)

    def _row(self, grid: Grid, budget: int | None, views: int, sums, rates) -> Row:
        top1, top5, videos, unreadable = (float(x) for x in sums)
        low, high = wilson_interval(top1, videos)
        patch = getattr(self._task.model, "patch", None)
        if (grid, budget) not in self._gmacs:
            self._gmacs[grid, budget] = forward_gmacs(self._task, grid, budget)
        return Row(
            budget=budget,
            grid=str(grid),
            tokens=None if patch is None else grid.tokens(patch),
            views=views,
            gmacs=self._gmacs[grid, budget],
            top1=top1 / videos,
            top5=top5 / videos,
            top1_low=low,
            top1_high=high,
            clips_per_second=statistics.median(rates),
            videos=round(videos),
            unreadable=round(unreadable),
        )
