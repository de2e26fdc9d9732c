"""Token Optimization of a checkpoint: python -m fluxjax.budgets --checkpoint runs/mine

Measures accuracy, GMACs and time over sampling grids, token budgets and selection methods; writes
budgets.json, budgets.csv and report.html. Cut short, the same command goes on where it was.
"""

import argparse
import datetime
import pathlib
import shlex
import sys
from collections.abc import Sequence

from fluxjax.budgets.merging import add_merge_options, merges_by_schedule, run_merging
from fluxjax.budgets.points import format_points, pareto, reports_beside
from fluxjax.budgets.publish import publish
from fluxjax.budgets.source import SweepData
from fluxjax.budgets.sweep import Sweep, sweep_settings
from fluxjax.checkpoints.paths import path_argument
from fluxjax.serving.checkpoint import open_checkpoint
from fluxjax.serving.command import (
    add_data_options,
    add_view_options,
    check_positive,
    command_parser,
    numbers,
    run_command,
)
from fluxjax.serving.settings import METHODS, methods_of
from fluxjax.tokens.grids import parse_grid


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.budgets", __doc__, "--workdir")
    add_view_options(options)
    add_data_options(options, default="the run's test data")
    add = options.add_argument
    add(
        "--output",
        metavar="DIR",
        type=path_argument,
        help="where results go; default: the run's folder, or CHECKPOINT_budgets of another",
    )
    add("--grids", help="FRAMESxPIXELS, comma-separated; default: those of the run's evaluation, "
        "and for each budget the largest grid within it")  # fmt: skip
    add("--budgets", help="tokens, or frames of dense clips, comma-separated; default: those the "
        "model was trained for")  # fmt: skip
    add("--methods", help=f"comma-separated, of {','.join(METHODS)}; default: all the model has")
    add(
        "--sampling",
        help="sparse, ssv2 or dense:STRIDE: which frames; default: the run's, or sparse",
    )
    add("--videos", type=int, help="measure on this many, evenly chosen; default: all")
    add("--pictures", type=int, default=3, help="clips shown in the report")
    add("--beside", help="budgets.json of other models on the same videos, comma-separated: shown "
        "on the same page")  # fmt: skip
    add("--repeats", type=int, default=20, help="timed calls a setting")
    add_merge_options(options)
    return options


def run(options: argparse.Namespace) -> int:
    """Sweeps as the options say; the exit code.

    Raises:
      ValueError, OSError, VideoError: naming what is wrong.
    """
    check_positive(options, "clips", "crops", "batch_size", "workers", "repeats", "tries")
    checkpoint = open_checkpoint(options.checkpoint)
    if merges_by_schedule(checkpoint.model):
        return run_merging(options, checkpoint)
    if options.merge or options.save is not None:
        raise ValueError(
            f"--merge and --save do not apply to a {type(checkpoint.model).__name__}, which has "
            "token budgets; say --budgets and --methods"
        )
    data = SweepData.open(options, checkpoint)
    budgets = numbers(options.budgets, "budgets") if options.budgets else data.default_budgets()
    grids = [parse_grid(text) for text in options.grids.split(",")] if options.grids else None
    if grids is None:
        grids = data.default_grids(budgets)
    methods = options.methods.split(",") if options.methods else methods_of(checkpoint.model)
    settings = sweep_settings(checkpoint.model, grids, budgets, methods)
    folder = pathlib.Path(options.output or checkpoint.measured)
    folder.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(
        checkpoint.model,
        checkpoint.variables,
        settings,
        data.batches,
        data.num_videos,
        options.batch_size,
        data.subject(),
        folder,
        options.repeats,
        made(options),
    )
    others = options.beside.split(",") if options.beside else ()
    beside = reports_beside(others, sweep.report())  # before anything is measured
    report = sweep.run()
    print(format_points(report.points))
    unreadable = max(point.unreadable for point in report.points)
    if unreadable:
        print(f"\n{unreadable} of {data.num_videos} videos could not be read, and count as wrong")
    print("\nNot beaten by a cheaper one (GMACs):\n")
    print(format_points(pareto(report.points, "gmacs")))
    page = publish(
        report, checkpoint, data.catalog, data.sampling, folder, options.pictures, beside
    )
    print(f"\nbudgets.json and budgets.csv are in {folder}; look at {page}")
    return 0


def made(options: argparse.Namespace) -> dict[str, str]:
    """Date and command of a sweep, for its report."""
    standard = vars(parser().parse_args(["--checkpoint", options.checkpoint]))
    given = [
        f"--{name.replace('_', '-')}={shlex.quote(str(value))}"
        for name, value in vars(options).items()
        if name != "checkpoint" and value != standard.get(name)
    ]
    checkpoint = f"--checkpoint={shlex.quote(str(options.checkpoint))}"
    return {
        "date": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        "command": " ".join(["python -m fluxjax.budgets", checkpoint, *given]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, or 1 and one line on what is wrong."""
    return run_command(run, parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
