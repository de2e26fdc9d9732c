"""The sweep: a checkpoint at every grid, budget and method, resumable, each video decoded once.

All settings of a grid see the same decoded batches. A finished grid is written to budgets.json; in
between, the counts so far are kept in budgets.partial.json, so that a sweep that was cut short goes
on where it was.
"""

import dataclasses
import functools
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from data_pipelines.progress import progress
from fluxjax.budgets import measure
from fluxjax.budgets.points import Point, Report, read_report, write_report
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.machine import same_machine, this_machine
from fluxjax.evaluation.tables import replace_text
from fluxjax.serving.settings import (
    FRAMES,
    Setting,
    UnmergeableError,
    make_setting,
    size_of,
    takes_frames,
)
from fluxjax.tokens.grids import Grid

log = logging.getLogger(__name__)

SAVE_SECONDS = 30  # between two savings of the counts
# Arrays of a batch that are looked at.
_COUNTED = ("patches", "video", "label", "weight", "readable")

HostBatch = Mapping[str, np.ndarray]


def sweep_settings(
    model: nn.Module, grids: Sequence[Grid], budgets: Sequence[int], methods: Sequence[str]
) -> tuple[Setting, ...]:
    """Every grid x method x budget that drops tokens, and all tokens for "none"; grid by grid.

    Of a model of dense clips every grid, and with as many of its frames as each budget says. What a
    shallow model cannot merge is left out.

    Raises:
      ValueError: as `make_setting`, or if nothing is left to measure.
    """
    settings: dict[Setting, None] = {}
    for grid in sorted(set(grids), key=lambda g: (-size_of(model, g), g)):
        for method in methods:
            for budget in _budgets_on(grid, sorted(set(budgets), reverse=True), method):
                try:
                    setting = make_setting(model, grid, budget, method)
                except UnmergeableError as error:
                    log.info("left out: %s with %s: %s", grid, method, error)
                    continue
                if setting.method == method:
                    settings[setting] = None
    if not settings:
        raise ValueError(
            f"none of the grids {', '.join(map(str, grids))} has more tokens than one of the "
            f"budgets {tuple(budgets)}: nothing can be dropped; add larger grids or method none"
        )
    return tuple(settings)


def _budgets_on(grid: Grid, budgets: Sequence[int], method: str) -> Sequence[int | None]:
    if method == "none":
        return (None,)
    if method != FRAMES:
        return budgets
    return (grid.frames, *(budget for budget in budgets if budget < grid.frames))


class Sweep:
    """Measures settings of one checkpoint on one data set; see the module's text."""

    def __init__(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        settings: Sequence[Setting],
        batches: Callable[[Grid, int], Iterator[HostBatch]],
        num_videos: int,
        batch_size: int,
        subject: Mapping[str, Any],
        folder: pathlib.Path,
        repeats: int = 20,
        made: Mapping[str, str] | None = None,
    ):
        """Reads what `folder` holds already.

        Args:
          model: with budgets of tokens, or of dense clips.
          variables: of the model.
          settings: to measure.
          batches: (grid, first batch) -> host batches as `data_pipelines.loader.eval_batches`
            yields them, each clip with exactly its tokens, or dense.
          num_videos: that all batches of a grid hold.
          batch_size: videos a batch.
          subject: see `Report`; a report of another subject is never continued.
          folder: of budgets.json; must exist.
          repeats: calls timed a setting.
          made: see `Report`.

        Raises:
          ValueError: if `folder` holds a report of another subject, or a damaged one.
        """
        self._model, self._variables, self._batches = model, variables, batches
        self._settings, self._repeats = tuple(settings), repeats
        self._videos, self._batch_size = num_videos, batch_size
        self._path = folder / "budgets.json"
        self._partial = folder / "budgets.partial.json"
        self._machine, self._made = this_machine(), dict(made or {})
        self._subject = json.loads(json.dumps(subject))  # as a stored one is read back
        self._points: dict[Setting, Point] = {}
        self._times_hold = True
        if self._path.exists():
            earlier = read_report(self._path)
            self._check_subject(earlier)
            self._points = {point.setting: point for point in earlier.points}
            self._times_hold = same_machine(earlier.machine, self._machine)

    def run(self) -> Report:
        """Measures what is missing, with a progress bar or lines in the log."""
        missing = [s for s in self._settings if s not in self._points]
        if not self._times_hold:
            log.info("times of %d settings are taken again on this machine", len(self._points))
            self._points = {s: self._timed_again(s, p) for s, p in self._points.items()}
        if self._points:
            log.info("%d of %d settings were measured before", len(self._settings) - len(missing),
                     len(self._settings))  # fmt: skip
        # All are traced before the first is run: a setting that cannot work should cost nothing.
        traced = {s: measure.trace_single(self._model, self._variables, s) for s in missing}
        grids = list(dict.fromkeys(setting.grid for setting in missing))
        with progress(len(grids) * self._videos, "videos", log) as note:
            for number, grid in enumerate(grids):
                settings = [s for s in missing if s.grid == grid]
                what = f"{grid} ({len(settings)} settings)"
                advance = lambda done, n=number, what=what: note(  # noqa: E731
                    n * self._videos + done, what
                )
                advance(0)
                self._measure_grid(grid, {s: traced[s] for s in settings}, advance)
        write_report(self.report(), self._path)
        return self.report()

    def _check_subject(self, report: Report) -> None:
        if report.subject == self._subject:
            return
        names = sorted({*report.subject, *self._subject})
        pairs = [(name, report.subject.get(name), self._subject.get(name)) for name in names]
        said = "; ".join(f"{name} was {a!r}, is {b!r}" for name, a, b in pairs if a != b)
        raise ValueError(
            f"{self._path} is of another sweep: {said}. Choose another --output, or move the file "
            "away"
        )

    def _timed_again(self, setting: Setting, point: Point) -> Point:
        single = measure.trace_single(self._model, self._variables, setting).lower().compile()
        batch = self._zero_batch(setting.grid, point.batch)
        hits = measure.lower_counts(self._model, self._variables, setting, batch).compile()
        times = self._times({setting: single}, {setting: hits}, batch, point.batch)[setting]
        return dataclasses.replace(point, **times)

    def _measure_grid(self, grid: Grid, traced: Mapping[Setting, Any], advance) -> None:
        """Adds the points of one grid and writes the report."""
        start = time.perf_counter()
        sums, batch, programs = self._count(grid, tuple(traced), advance)
        views = math.prod(measure.clips_of(batch).shape[:2])
        singles = {s: program.lower().compile() for s, program in traced.items()}
        gmacs = {s: measure.gmacs(self._model, self._variables, s) for s in traced}
        times = self._times(singles, programs, batch, views)
        for setting, (top1, top5, videos, unreadable) in sums.items():
            low, high = wilson_interval(top1, videos)
            self._points[setting] = Point(
                grid=str(grid), tokens=size_of(self._model, grid), budget=setting.budget,
                method=setting.method, head=setting.head, gmacs=gmacs[setting],
                top1=top1 / videos, top1_low=low, top1_high=high, top5=top5 / videos,
                videos=round(videos), unreadable=round(unreadable), **times[setting],
            )  # fmt: skip
        write_report(self.report(), self._path)
        self._partial.unlink(missing_ok=True)
        log.info("%s: %d videos at %d settings in %.0f s", grid, self._videos, len(sums),
                 time.perf_counter() - start)  # fmt: skip

    def _count(self, grid: Grid, settings: tuple[Setting, ...], advance):
        """Hits of each setting over all videos, a batch on the device, and the programs."""
        done, sums = self._restored(settings)
        programs: dict[Setting, Any] = {}
        saved, batch = time.perf_counter(), None
        for host in self._batches(grid, done):
            batch = {name: jax.device_put(host[name]) for name in _COUNTED if name in host}
            if not programs:
                lower = functools.partial(measure.lower_counts, self._model, self._variables)
                programs = {s: lower(s, batch).compile() for s in settings}
            key = jax.random.fold_in(jax.random.key(0), done)
            found = {s: program(self._variables, batch, key) for s, program in programs.items()}
            for setting, hits in jax.device_get(found).items():
                sums[setting] += hits
            done += 1
            advance(min(round(sums[settings[0]][2]), self._videos))
            unfinished = sums[settings[0]][2] < self._videos
            if unfinished and time.perf_counter() - saved > SAVE_SECONDS:
                saved = time.perf_counter()
                self._save(settings, done, sums)
        return {s: tuple(map(float, values)) for s, values in sums.items()}, batch, programs

    def _restored(self, settings: tuple[Setting, ...]):
        """(batches done, sums) of a grid that was cut short, or zeros."""
        fresh = 0, {setting: np.zeros(4) for setting in settings}
        if not self._partial.exists():
            return fresh
        stored = json.loads(self._partial.read_text(encoding="utf-8"))
        if any(stored.get(name) != value for name, value in self._counting(settings).items()):
            return fresh
        log.info("%s goes on after %d batches", settings[0].grid, stored["batches"])
        return stored["batches"], dict(zip(settings, map(np.array, stored["sums"]), strict=True))

    def _counting(self, settings: tuple[Setting, ...]) -> dict[str, Any]:
        """What stored counts must agree in to be continued."""
        names = list(map(str, settings))
        return {
            "subject": self._subject, "settings": names, "batch_size": self._batch_size,
            "counts": ["top1", "top5", "videos", "unreadable"],
        }  # fmt: skip

    def _save(self, settings: tuple[Setting, ...], done: int, sums) -> None:
        counts = [sums[setting].tolist() for setting in settings]
        record = self._counting(settings) | {"batches": done, "sums": counts}
        replace_text(self._partial, json.dumps(record) + "\n")

    def _times(self, singles, programs, batch, views: int) -> dict[Setting, dict[str, float]]:
        """The fields of `Point` that hold times, of every setting of one grid."""
        frames, side = next(iter(singles)).grid
        clip = jax.device_put(np.zeros((1, frames, side, side, 3), np.uint8))
        key, variables = jax.random.key(0), self._variables
        single = [lambda p=p: p(variables, clip, key) for p in singles.values()]
        batched = [lambda p=p: p(variables, batch, key) for p in programs.values()]
        latencies = measure.interleaved_times(single, self._repeats)
        throughputs = measure.interleaved_times(batched, max(self._repeats // 4, 1))
        return {
            setting: {
                "latency_ms": alone.median,
                "latency_low_ms": alone.low,
                "latency_high_ms": alone.high,
                "clips_per_second": views / (many.median / 1e3),
                "batch": views,
            }
            for setting, alone, many in zip(singles, latencies, throughputs, strict=True)
        }

    def _zero_batch(self, grid: Grid, views: int) -> dict[str, jax.Array]:
        if takes_frames(self._model):
            name, shape = "video", (grid.frames, grid.resolution, grid.resolution, 3)
        else:
            patch = self._model.patch
            name, shape = "patches", (grid.tokens(patch), patch**2 * 3)
        return {
            name: jax.device_put(np.zeros((views, 1, *shape), np.uint8)),
            "label": jax.device_put(np.zeros(views, np.int32)),
            "weight": jax.device_put(np.zeros(views, np.float32)),
            "readable": jax.device_put(np.ones(views, bool)),
        }

    def report(self) -> Report:
        """What is known so far."""
        return Report(self._subject, self._machine, tuple(self._points.values()), self._made)
