"""Token Optimization of a checkpoint: python -m fluxjax.budgets --workdir runs/mine

Measures accuracy, GMACs and time over sampling grids, token budgets and selection methods; writes
budgets.json, budgets.csv and report.html. Cut short, the same command goes on where it was.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from data_pipelines.errors import VideoError
from fluxjax.budgets.points import format_points, pareto
from fluxjax.budgets.publish import publish
from fluxjax.budgets.source import SweepData
from fluxjax.budgets.sweep import Sweep, sweep_settings
from fluxjax.grids import parse_grid
from fluxjax.inference import open_checkpoint
from fluxjax.main import set_up_logging
from fluxjax.settings import METHODS, methods_of


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(
        prog="python -m fluxjax.budgets", description=__doc__.splitlines()[0]
    )
    add = options.add_argument
    add("--workdir", required=True, metavar="DIR", help="training run or inference checkpoint")
    add("--output", metavar="DIR", help="where results go; default: --workdir")
    add("--grids", help="FRAMESxPIXELS, comma-separated; default: those of the run's evaluation, "
        "and for each budget the largest grid within it")  # fmt: skip
    add("--budgets", help="tokens, comma-separated; default: those the model was trained for")
    add("--methods", help=f"comma-separated, of {','.join(METHODS)}; default: all the model has")
    add("--data", help="demo[:easy|:hard], tfds:NAME or a list file; default: the run's test data")
    add("--split", help="default: the run's, or test")
    add("--data-dir", help="cache of the demo corpus and TFDS")
    add("--root", help="joined to relative paths of list files")
    add("--separator", help="of list files; default: white space")
    add(
        "--sampling",
        help="sparse, ssv2 or dense:STRIDE: which frames; default: the run's, or sparse",
    )
    add("--videos", type=int, help="measure on this many, evenly chosen; default: all")
    add("--clips", type=int, default=1, help="temporal views a video")
    add("--crops", type=int, default=1, help="spatial views a clip")
    add("--pictures", type=int, default=3, help="clips shown in the report")
    add("--batch-size", type=int, default=64, help="videos")
    add("--workers", type=int, default=2, help="decoding threads")
    add("--repeats", type=int, default=20, help="timed calls a setting")
    add("--max-bad-share", type=float, default=0.05, help="of unreadable videos that is accepted")
    return options


def run(options: argparse.Namespace) -> int:
    """Sweeps as the options say; the exit code.

    Raises:
      ValueError, OSError, VideoError: naming what is wrong.
    """
    for name in ("clips", "crops", "batch_size", "workers", "repeats"):
        if getattr(options, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}={getattr(options, name)} must be at least 1")
    checkpoint = open_checkpoint(options.workdir)
    data = SweepData.open(options, checkpoint)
    budgets = _numbers(options.budgets) if options.budgets else data.default_budgets()
    grids = [parse_grid(text) for text in options.grids.split(",")] if options.grids else None
    if grids is None:
        grids = data.default_grids(budgets)
    methods = options.methods.split(",") if options.methods else methods_of(checkpoint.model)
    settings = sweep_settings(checkpoint.model, grids, budgets, methods)
    folder = pathlib.Path(options.output or options.workdir)
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
    )
    report = sweep.run(silent=not sys.stderr.isatty())
    print(format_points(report.points))
    print("\nNot beaten by a cheaper one (GMACs):\n")
    print(format_points(pareto(report.points, "gmacs")))
    page = publish(report, checkpoint, data.catalog, data.sampling, folder, options.pictures)
    print(f"\nbudgets.json and budgets.csv are in {folder}; look at {page}")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--budgets={text} must be whole numbers with commas, e.g. 128,256"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, or 1 and one line on what is wrong."""
    set_up_logging()
    try:
        return run(parser().parse_args(arguments))
    except (ValueError, OSError, VideoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
