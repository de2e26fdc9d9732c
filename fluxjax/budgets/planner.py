"""The best setting within a limit, from the measurements of a sweep.

python -m fluxjax.budgets.planner --report runs/mine/budgets.json --tokens 512
"""

import argparse
import json
import sys
from collections.abc import Sequence

from fluxjax.budgets.points import Point, Report, read_report
from fluxjax.evaluation.machine import same_machine, this_machine

# Of the limits: the attribute of a point, and how messages call its unit.
_LIMITS = {"tokens": ("budget", "tokens"), "gmacs": ("gmacs", "GMACs"), "ms": ("latency_ms", "ms")}


def plan(
    report: Report,
    *,
    tokens: float | None = None,
    gmacs: float | None = None,
    ms: float | None = None,
) -> Point:
    """The most accurate point within every limit given; the cheaper of equals.

    Settings that keep tokens at random are left out: they are there for comparison only.

    Args:
      report: of `fluxjax.budgets`.
      tokens: that go through the transformer, at most.
      gmacs: of a view, at most.
      ms: median milliseconds of one view, at most; the report must be of this machine.

    Raises:
      ValueError: without a limit, where nothing is as cheap, or if milliseconds are asked of a
        report of another machine.
    """
    limits = {"tokens": tokens, "gmacs": gmacs, "ms": ms}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if not limits:
        raise ValueError(f"a plan needs a limit: one of {', '.join(_LIMITS)}")
    if ms is not None and not same_machine(report.machine, this_machine()):
        there = f"{report.machine.get('processor')}, {report.machine.get('devices')}"
        raise ValueError(
            f"the report's milliseconds are those of another machine ({there}); run "
            "`python -m fluxjax.budgets` here on the same output folder: accuracies are kept, "
            "times are measured again"
        )
    servable = [point for point in report.points if point.method != "random"]
    fitting = [point for point in servable if _within(point, limits)]
    if not fitting:
        raise ValueError(_nothing_fits(servable, limits))
    return max(fitting, key=lambda p: (p.top1, -p.gmacs, -p.latency_ms))


def _within(point: Point, limits: dict[str, float]) -> bool:
    return all(getattr(point, _LIMITS[name][0]) <= limit for name, limit in limits.items())


def _nothing_fits(points: Sequence[Point], limits: dict[str, float]) -> str:
    asked = " and ".join(f"{limit:g} {_LIMITS[name][1]}" for name, limit in limits.items())
    least = [
        f"{min((getattr(p, attribute) for p in points), default=float('nan')):.3g} {unit}"
        for attribute, unit in (_LIMITS[name] for name in limits)
    ]
    return (
        f"no measured setting needs at most {asked}; the least are {' and '.join(least)}. Raise "
        "the limit, or sweep smaller grids and budgets"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints the setting as one JSON object; exit code 1 where none fits."""
    options = argparse.ArgumentParser(
        prog="python -m fluxjax.budgets.planner", description=__doc__.splitlines()[0]
    )
    options.add_argument("--report", required=True, metavar="FILE", help="budgets.json of a sweep")
    for name, (_, unit) in _LIMITS.items():
        options.add_argument(f"--{name}", type=float, help=f"at most this many {unit} a view")
    given = options.parse_args(arguments)
    try:
        limits = {name: getattr(given, name) for name in _LIMITS}
        point = plan(read_report(given.report), **limits)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    names = ("grid", "budget", "method", "head", "gmacs", "latency_ms", "top1")
    print(json.dumps({name: getattr(point, name) for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
