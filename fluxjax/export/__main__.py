"""Serving artefacts: python -m fluxjax.export --checkpoint runs/mine --budgets 48,24 --target OUT

For each budget a StableHLO program for CPU, CUDA and TPU, any batch size; weights beside them.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from fluxjax.budgets import measure
from fluxjax.budgets.planner import plan_aloud
from fluxjax.budgets.points import Report, read_report
from fluxjax.checkpoints.inference import save
from fluxjax.checkpoints.paths import path_argument
from fluxjax.export.artefacts import PLATFORMS, Rung, export
from fluxjax.serving.checkpoint import Checkpoint, open_checkpoint
from fluxjax.serving.command import add_sampling_option, command_parser, numbers, run_command
from fluxjax.serving.settings import Setting, make_setting
from fluxjax.tokens.grids import parse_grid


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.export", __doc__)
    add = options.add_argument
    add(
        "--target",
        required=True,
        metavar="OUT",
        type=path_argument,
        help="folder to write; must be empty",
    )
    add("--budgets", help="tokens, comma-separated; default: those the model was trained for")
    add("--grid", help="of every budget, FRAMESxPIXELS; default: the report's best, or the first "
        "that the run was evaluated on")  # fmt: skip
    add(
        "--report",
        type=path_argument,
        help="budgets.json; default: the run's own, where there is one",
    )
    add("--within-noise", action="store_true", help="of the report, the cheapest setting within a "
        "budget that is not significantly less accurate than the best")  # fmt: skip
    add_sampling_option(options)
    add("--platforms", default=",".join(PLATFORMS), help="default: %(default)s")
    add("--saved-model", action="store_true",
        help="also a TensorFlow SavedModel a budget (needs TensorFlow)")  # fmt: skip
    add("--orbax", action="store_true", help="also the checkpoint, for fluxjax.load(OUT/model)")
    return options


def rungs_of(options: argparse.Namespace, checkpoint: Checkpoint) -> list[Rung]:
    """A rung for each budget: the report's best setting within it, or the grid that is given.

    Raises:
      ValueError, FileNotFoundError: naming what is wrong.
    """
    model, report = checkpoint.model, _report(options, checkpoint)
    if options.within_noise and (report is None or options.grid is not None):
        raise ValueError("--within-noise chooses from a report: add --report, and drop --grid")
    if options.budgets:
        budgets = numbers(options.budgets, "budgets")
    else:
        budgets = list(getattr(model, "budgets", (None,)))
    rungs = []
    for budget in dict.fromkeys(budgets):
        point = None
        if report is not None and options.grid is None:
            point, line = plan_aloud(report, tokens=budget, within_noise=options.within_noise)
            print(line, file=sys.stderr)
            setting = point.setting
        else:
            grid = parse_grid(options.grid) if options.grid else checkpoint.default_grid()
            setting = make_setting(model, grid, budget)
            if report is not None:
                point = next((p for p in report.points if p.setting == setting), None)
        gmacs = measure.gmacs(model, checkpoint.variables, setting)
        rungs.append(Rung(setting, gmacs, point))
    return _distinct(rungs)


def _report(options: argparse.Namespace, checkpoint: Checkpoint) -> Report | None:
    if options.report:
        return read_report(options.report)
    own = checkpoint.measured / "budgets.json"
    return read_report(own) if own.is_file() else None


def _distinct(rungs: Sequence[Rung]) -> list[Rung]:
    """Without repetitions: two budgets may be served best by the same setting."""
    seen: dict[Setting, Rung] = {}
    for rung in rungs:
        if rung.setting in seen:
            print(f"{rung.setting} is the best within two of the budgets: exported once",
                  file=sys.stderr)  # fmt: skip
        seen.setdefault(rung.setting, rung)
    return list(seen.values())


def run(options: argparse.Namespace) -> int:
    """Exports as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    checkpoint = open_checkpoint(options.checkpoint)
    rungs = rungs_of(options, checkpoint)
    target = export(
        pathlib.Path(options.target),
        checkpoint.model,
        checkpoint.variables,
        rungs,
        labels=checkpoint.labels,
        sampling=checkpoint.sampling(options.sampling),
        platforms=options.platforms.split(","),
    )
    if options.saved_model:
        from fluxjax.export.saved_model import write_saved_model  # brings TensorFlow

        for rung in rungs:
            folder = target / f"saved_model_{rung.setting.budget}"
            write_saved_model(folder, checkpoint.model, checkpoint.variables, rung.setting)
    if options.orbax:
        save(
            target / "model",
            checkpoint.model,
            checkpoint.variables,
            labels=checkpoint.labels,
            usage=checkpoint.usage,
        )
    for rung in rungs:
        accuracy = "" if rung.point is None else f", top-1 {rung.point.top1:.1%}"
        print(f"{rung.setting}: {rung.gmacs:.3g} GMACs{accuracy}")
    print(f"ladder.json, programs and weights are in {target}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, or 1 and one line on what is wrong."""
    return run_command(run, parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
