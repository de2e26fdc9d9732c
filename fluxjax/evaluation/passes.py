"""Compiled programs over all videos of a split, each video once."""

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from fluxjax.evaluation.base import EvalData, HostBatch
from fluxjax.evaluation.progress import Progress
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.examples import PER_VIDEO, TextSpec
from fluxjax.tokens.grids import Grid, parse_grid
from fluxjax.training import mesh as meshes

log = logging.getLogger(__name__)

# (variables, batch [videos, ..] on the devices, plan) -> arrays that all processes get whole.
Function = Callable[[Any, Mapping[str, jax.Array], Plan], Any]


class Output(NamedTuple):
    """What a program gave for one batch.

    Attributes:
      value: on the host, or left on the devices, see `Passes.run`.
      seconds: of the call.
      clips: that this process put in: its videos x views.
    """

    value: Any
    seconds: float
    clips: int


class Passes:
    """Runs programs over batches; equal (function, plan) share one compiled program."""

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Compiles nothing yet; batches are cut over the devices of `mesh`."""
        self.task, self._mesh, self._data = task, mesh, data
        self._programs: dict[Hashable, Any] = {}

    def grids(self) -> tuple[Grid, ...]:
        """The sampling grids of `config.eval.grids`."""
        return tuple(parse_grid(text) for text in self.task.config.eval.grids)

    @property
    def shards(self) -> int:
        """Devices that a batch is cut over."""
        return meshes.batch_shards(self._mesh)

    def run(
        self,
        function: Function,
        plans: Mapping[Any, Plan],
        grid: Grid,
        variables: Any,
        split: str = "test",
        videos: int | None = None,
        on_host: bool = True,
    ) -> "Pass":
        """A pass over a split on one grid; iterate over it.

        Args:
          function: what is computed of a batch; `merged` turns its views into clips.
          plans: what to compute: key -> plan.
          grid: of every clip.
          variables: of the task's model.
          split: test or train.
          videos: this many, evenly spaced; None: all.
          on_host: fetch what the function gives; False leaves it on the devices.
        """
        spec = self.task.eval_example(grid)
        batches = self._data.eval_batches(spec, split, videos)
        there = len(self._data.catalog(split))
        fetch = jax.device_get if on_host else jax.block_until_ready
        total = min(videos or there, there)
        return Pass(self, function, plans, grid, variables, batches, total, fetch)

    def texts(
        self, function: Function, plan: Plan, spec: TextSpec, texts: Sequence[str], variables: Any
    ) -> np.ndarray:
        """`function` of texts, `eval.batch_size` at a time: an array [M, ..].

        Args:
          function: of batches text [B, L] int32, text_length [B] int32.
          plan: how to run the model.
          spec: how texts become token ids.
          texts: M of them.
          variables: of the task's model.
        """
        arrays = self._data.encode(texts, spec)
        rows = self.task.config.eval.batch_size
        parts, progress = [], Progress("texts", len(texts))
        for start in range(0, len(texts), rows):
            placed = self.put_rows({n: x[start : start + rows] for n, x in arrays.items()}, rows)
            program = self.program(function, plan, variables, placed)
            parts.append(jax.device_get(program(variables, placed)))
            progress.add(min(rows, len(texts) - start))
        return np.concatenate(parts)[: len(texts)]

    def put_rows(self, batch: HostBatch, rows: int) -> dict[str, jax.Array]:
        """Rows that every process has, at most `rows`, on the devices: each puts its share.

        Zeros fill the rest.
        """
        own = rows // jax.process_count()
        first = jax.process_index() * own
        shares = {}
        for name, array in batch.items():
            fill = [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1)
            shares[name] = np.pad(array, fill)[first : first + own]
        return self.put(shares)

    def merged(self, batch: Mapping[str, jax.Array]) -> tuple[dict[str, jax.Array], int, int]:
        """The clips of a batch [videos * views, ..], and how many videos and views there are."""
        clips = {name: array for name, array in batch.items() if name not in PER_VIDEO}
        videos, views = next(iter(clips.values())).shape[:2]
        return {n: x.reshape(-1, *x.shape[2:]) for n, x in clips.items()}, videos, views

    def names(self, split: str, examples: np.ndarray) -> tuple[str, ...]:
        """Names of examples that any process has met, in order; the same on every process."""
        catalog = self._data.catalog(split)
        mask = np.zeros(len(catalog), bool)
        mask[examples] = True
        if jax.process_count() > 1:
            mask = np.any(multihost_utils.process_allgather(mask), axis=0)
        return tuple(catalog.name(int(i)) for i in np.flatnonzero(mask))

    def all_names(self) -> list[str]:
        """Names of all test videos, in order."""
        catalog = self._data.catalog("test")
        return [catalog.name(index) for index in range(len(catalog))]

    def label_names(self, split: str) -> tuple[str, ...] | None:
        """Names of the classes of a split, or None."""
        return self._data.catalog(split).label_names

    def program(self, function: Function, plan: Plan, variables: Any, placed: Any):
        """`function` at a plan, compiled for a batch of these shapes."""
        shapes = tuple((name, x.shape) for name, x in sorted(placed.items()))
        key = (function, plan, shapes)
        if key not in self._programs:
            jitted = jax.jit(
                lambda variables, batch: function(variables, batch, plan),
                out_shardings=meshes.replicated(self._mesh),
            )
            with meshes.activations_on(self._mesh):
                self._programs[key] = jitted.lower(variables, placed).compile()
        return self._programs[key]

    def put(self, batch: HostBatch) -> dict[str, jax.Array]:
        """A host batch on the devices."""
        return meshes.put_batch(batch, self._mesh)


class Pass:
    """One pass: iterate for {key: `Output`} of every batch; afterwards what it met is known.

    Attributes:
      views: of a video.
      unreadable: numbers of this process's examples that could not be read.
    """

    def __init__(self, passes: Passes, function, plans, grid: Grid, variables, batches, total: int,
                 fetch: Callable[[Any], Any]):  # fmt: skip
        """See `Passes.run`; `total` videos there are, `fetch` waits for what a program gives."""
        self._passes, self._function, self._plans = passes, function, plans
        self._grid, self._variables, self._batches = grid, variables, batches
        self._total, self._fetch = total, fetch
        self.views, self.unreadable = 1, np.zeros(0, np.int64)

    def __iter__(self) -> Iterator[dict[Any, Output]]:
        progress = Progress(f"{self._grid}: videos", self._total)
        for batch in self._batches:
            placed = self._passes.put(batch)
            _, videos, self.views = self._passes.merged(batch)
            outputs = {}
            for key, plan in self._plans.items():
                program = self._passes.program(self._function, plan, self._variables, placed)
                began = time.perf_counter()
                value = self._fetch(program(self._variables, placed))
                seconds = time.perf_counter() - began
                outputs[key] = Output(value, seconds, videos * self.views)
            real = batch["weight"] > 0
            bad = batch["example"][real & ~batch["readable"]]
            self.unreadable = np.concatenate([self.unreadable, bad])
            yield outputs
            rows = len(real) * jax.process_count()  # of all processes
            progress.add(min(rows, self._total - progress.done))
        log.info(
            "evaluated %d videos on %s%s in %.0f s",
            progress.done, self._grid, _listed(self._plans), progress.seconds,
        )  # fmt: skip


def _listed(plans: Mapping[Any, Plan]) -> str:
    budgets = [str(plan.budget) for plan in plans.values() if plan.budget is not None]
    return f" at {'/'.join(budgets)} tokens" if budgets else ""


def mean_over_views(values: jax.Array, videos: int, views: int) -> jax.Array:
    """[videos * views, ..] -> [videos, ..] float32, the mean of each video's views."""
    return jnp.mean(values.reshape(videos, views, *values.shape[1:]).astype(jnp.float32), axis=1)
