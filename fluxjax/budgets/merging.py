"""What merging costs and saves in retrieval: schedules against R@1, GMACs and time.

    python -m fluxjax.budgets --checkpoint runs/umt --save 0.4

Of a model whose encoder merges by a schedule and has no token budgets. All schedules of a grid see
the same decoded batches.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.budgets.measure import interleaved_times
from fluxjax.budgets.schedules import (
    Schedule,
    parse_schedule,
    saving,
    schedule_name,
    search,
    tokens_left,
)
from fluxjax.config.keys import check_config
from fluxjax.config.ranges import check_devices
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.machine import this_machine
from fluxjax.evaluation.retrieval import Retrieval
from fluxjax.evaluation.tables import markdown_table, replace_text
from fluxjax.models.umt_compute import encoder_gmacs
from fluxjax.serving.checkpoint import Checkpoint
from fluxjax.serving.run_config import config_of, evaluate_on, set_options
from fluxjax.tasks.base import Batch, Plan
from fluxjax.tasks.retrieve import RetrieveTask
from fluxjax.tokens.grids import Grid, parse_grid
from fluxjax.tokens.merging import check_schedule
from fluxjax.training.mesh import batch_shards, make_mesh, shardings

SAVE = 0.4  # where nothing is asked for
# Options of the command that say nothing of schedules.
_OTHERS = ("budgets", "methods", "beside", "videos")


def add_merge_options(options: argparse.ArgumentParser) -> None:
    """--merge, --save and --tries: which schedules are measured."""
    add, of = options.add_argument, "of a model of video and text: "
    add("--merge", action="append", default=[], metavar="R,R,..", help=f"{of}tokens that its first "
        "blocks merge, or their shares; may be given several times")  # fmt: skip
    add("--save", type=float, help=f"{of}search schedules that save this share of its encoder's "
        f"products; default: {SAVE}, where no --merge is given")  # fmt: skip
    add("--tries", type=int, default=8, help="schedules that the search measures")


def merges_by_schedule(model: nn.Module) -> bool:
    """Whether a model's encoder merges tokens, and it has no heads for token budgets."""
    return getattr(model, "merges", False) and not hasattr(model, "head_for")


class ScheduledRetrieval(RetrieveTask):
    """Retrieval at several merge schedules, which are what budgets are elsewhere."""

    def __init__(self, config: ConfigDict, schedules: Mapping[Grid, Sequence[Schedule]]):
        """Builds the model.

        Args:
          config: of task retrieve.
          schedules: to measure on each grid.

        Raises:
          ValueError: as `UmtTask`, or on a schedule that cannot be run on its grid.
        """
        super().__init__(config)
        self._schedules = schedules
        for grid, some in schedules.items():
            for merge in some:
                check_schedule(merge, self.model.depth, tokens_of(self.model, grid))
        self._by_name = {schedule_name(m): m for some in schedules.values() for m in some}

    def eval_plans(self, grid: Grid) -> dict[str, Plan]:
        """A plan for each schedule of a grid, by name."""
        names = map(schedule_name, self._schedules[grid])
        return {name: Plan(name, grid=grid) for name in names}

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """As `RetrieveTask.embed_video`, with the plan's schedule."""
        merge = self._by_name[plan.name]
        return self.model.apply(variables, batch["video"], merge=merge)


def shape_of(model: nn.Module, grid: Grid) -> tuple[int, int, int]:
    """(T, H, W) of a grid's clips in tokens."""
    side = grid.resolution // model.patch
    return grid.frames // model.tubelet, side, side


def tokens_of(model: nn.Module, grid: Grid) -> int:
    """Tokens of a grid's clips."""
    frames, rows, columns = shape_of(model, grid)
    return frames * rows * columns


def run_merging(options: argparse.Namespace, checkpoint: Checkpoint) -> int:
    """Measures the schedules that the options name or that a search finds; the exit code.

    Raises:
      ValueError, OSError, VideoError: naming what is wrong.
    """
    from data_pipelines.from_config import VideoData  # needs PyAV, and TensorFlow for tf.data

    config = _config(options, checkpoint)
    model, save = checkpoint.model, options.save
    given = [parse_schedule(text) for text in options.merge]
    if save is None and not given:
        save = SAVE
    schedules = {}
    for grid in map(parse_grid, config.eval.grids):
        found = () if save is None else search(model, shape_of(model, grid), save, options.tries)
        schedules[grid] = tuple(dict.fromkeys(((), *given, *found)))
    mesh = make_mesh(config.mesh)
    check_devices(config, batch_shards(mesh))
    task = ScheduledRetrieval(config, schedules)
    data = VideoData.open(config, splits=Retrieval.splits, label_names=checkpoint.labels)
    placed = jax.device_put(checkpoint.variables, shardings(checkpoint.variables, mesh))
    table = Retrieval(task, mesh, data).run(placed)
    times = {grid: _times(task, checkpoint.variables, grid, options.repeats) for grid in schedules}
    points = [
        _point(model, grid, merge, table.rows, times[grid][schedule_name(merge)])
        for grid, some in schedules.items()
        for merge in some
    ]
    print(f"{table.title}\n\n{format_points(points)}")
    folder = pathlib.Path(options.output or checkpoint.measured)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"data": config.data.test, "machine": this_machine(), "points": points}
    replace_text(folder / "merging.json", json.dumps(record, indent=2) + "\n")
    print(f"\nthe table is also in {folder / 'merging.json'}")
    return 0


def _config(options: argparse.Namespace, checkpoint: Checkpoint) -> ConfigDict:
    """What is measured on: the run's config, with the options in it."""
    for name in _OTHERS:
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name} does not apply to a {type(checkpoint.model).__name__}, which merges by "
                "a schedule; leave it out, and say --merge or --save"
            )
    config = config_of(checkpoint)
    if config.task != "retrieve":
        raise ValueError(
            f"merge schedules are measured on retrieval; {checkpoint.folder} is of task "
            f"{config.task!r}"
        )
    set_options(config, options)
    if options.grids:
        evaluate_on(config, checkpoint, options.grids.split(","))
    config.data.train = config.data.train or config.data.test
    config.eval.evaluators, config.retrieve.merge = ("retrieval",), ()
    check_config(config)
    return config


def _times(task: ScheduledRetrieval, variables: Any, grid: Grid, repeats: int) -> dict[str, Any]:
    """Milliseconds of one clip through the encoder, by schedule."""
    clip = jnp.zeros((1, grid.frames, grid.resolution, grid.resolution, 3), jnp.uint8)
    plans, embed = task.eval_plans(grid), jax.jit(task.embed_video, static_argnums=2)
    calls = [lambda p=plan: embed(variables, {"video": clip}, p) for plan in plans.values()]
    return dict(zip(plans, interleaved_times(calls, repeats), strict=True))


def _point(model, grid: Grid, merge: Schedule, rows, times) -> dict[str, Any]:
    """One schedule on one grid: what it costs, and R@1 of both directions."""
    shape = shape_of(model, grid)
    point = {
        "grid": str(grid), "merge": list(merge), "tokens_left": tokens_left(model, shape, merge),
        "gmacs": encoder_gmacs(model, shape, merge), "saved": saving(model, shape, merge),
        "latency_ms": times.median, "latency_low_ms": times.low, "latency_high_ms": times.high,
    }  # fmt: skip
    for row in rows:
        if (row["grid"], row["budget"]) == (str(grid), schedule_name(merge)):
            hits = row["recall_at_1"] * row["queries"]
            low, high = wilson_interval(hits, row["queries"])
            side = row["direction"]
            point |= {f"{side}_r1": row["recall_at_1"], f"{side}_r1_interval": (low, high)}
    return point


def format_points(points: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table by rising cost; a star marks what nothing cheaper equals by text queries."""
    head = ("", "merge", "grid", "tokens left", "GMACs", "saved", "R@1 of texts (95 % interval)",
            "R@1 of videos", "ms (10-90 %)")  # fmt: skip
    body, best = [], -1.0
    for point in sorted(points, key=lambda p: (p["gmacs"], -p["text_r1"])):
        star = "*" if point["text_r1"] > best else ""
        best = max(best, point["text_r1"])
        low, high = point["text_r1_interval"]
        body.append((
            star, schedule_name(point["merge"]), point["grid"], str(point["tokens_left"]),
            f"{point['gmacs']:.3g}", f"{point['saved']:.1%}",
            f"{point['text_r1']:.1%} ({low:.1%} to {high:.1%})", f"{point['video_r1']:.1%}",
            f"{point['latency_ms']:.2f} ({point['latency_low_ms']:.2f} to "
            f"{point['latency_high_ms']:.2f})",
        ))  # fmt: skip
    return markdown_table(head, body)
