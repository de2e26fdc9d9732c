"""The best setting within a limit, from the measurements of a sweep.

python -m fluxjax.budgets.planner --report runs/mine/budgets.json --tokens 512
"""

import json
import math
import sys
from collections.abc import Sequence

from fluxjax.budgets.points import Point, Report, read_report
from fluxjax.evaluation.machine import same_machine, this_machine
from fluxjax.options import OptionParser
from fluxjax.serving.settings import FRAMES

# Of the limits: the attribute of a point, and how messages call its unit.
_LIMITS = {"tokens": ("budget", "tokens"), "gmacs": ("gmacs", "GMACs"), "ms": ("latency_ms", "ms")}
_SIGNIFICANT = 1.96  # standard errors; 5 %, two-sided


def plan(
    report: Report,
    *,
    tokens: float | None = None,
    gmacs: float | None = None,
    ms: float | None = None,
    within_noise: bool = False,
) -> Point:
    """The most accurate point within every limit given; the cheaper of equals.

    Settings that keep tokens at random are left out: they are there for comparison only.

    `within_noise` takes the cheapest point instead that the videos do not tell from the most
    accurate one, see `cheapest_within_noise`; by milliseconds where `ms` is given, else by GMACs.

    Args:
      report: of `fluxjax.budgets`.
      tokens: that go through the transformer, at most; frames, of a report of dense clips.
      gmacs: of a view, at most.
      ms: median milliseconds of one view, at most; the report must be of this machine.
      within_noise: whether to prefer the cheapest of those that are as good.

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
    usable = servable(report.points)
    fitting = [point for point in usable if _within(point, limits)]
    if not fitting:
        raise ValueError(_nothing_fits(usable, limits))
    if within_noise:
        return cheapest_within_noise(fitting, "gmacs" if ms is None else "latency_ms")
    return most_accurate(fitting)


def plan_aloud(report: Report, **limits: float | None) -> tuple[Point, str]:
    """`plan`, and a line that names its choice and the other one of `within_noise`."""
    best, cheapest = (plan(report, **limits | {"within_noise": noise}) for noise in (False, True))
    chosen, other = (cheapest, best) if limits.get("within_noise") else (best, cheapest)
    if best == cheapest:
        return chosen, f"{in_words(chosen)}; nothing cheaper is as good within the noise"
    what = "most accurate" if other is best else "cheapest within its noise"
    return chosen, f"{in_words(chosen)}; {what}: {in_words(other)}"


def servable(points: Sequence[Point]) -> list[Point]:
    """Without those that keep tokens at random, which are there for comparison only."""
    return [point for point in points if point.method != "random"]


def most_accurate(points: Sequence[Point]) -> Point:
    """The point of highest top-1; of equals the one with fewest GMACs, then least time."""
    return max(points, key=lambda p: (p.top1, -p.gmacs, -p.latency_ms))


def cheapest_within_noise(points: Sequence[Point], cost: str = "gmacs") -> Point:
    """The cheapest point that is not significantly less accurate than the most accurate one.

    Of equally cheap ones the more accurate. What is significant says `significantly_below`.

    Args:
      points: of one report, at least one.
      cost: name of the attribute to be small, "gmacs" or "latency_ms".
    """
    best = most_accurate(points)
    equals = [point for point in points if not significantly_below(point, best)]
    return min(equals, key=lambda p: (getattr(p, cost), -p.top1, p.latency_ms))


def significantly_below(point: Point, best: Point) -> bool:
    """Whether a top-1 is below another by more than chance explains: a two-proportion z-test.

    Pooled variance, 5 % two-sided (z > 1.96). The videos are the same ones, which makes the true
    noise of the difference smaller than that of two independent samples: a difference that this
    test calls significant is so; small ones that a paired test would find may pass as noise.
    Overlapping 95 % intervals are no such test: they can overlap up to z = 2.8.
    """
    pooled = (point.top1 * point.videos + best.top1 * best.videos) / (point.videos + best.videos)
    variance = pooled * (1 - pooled) * (1 / point.videos + 1 / best.videos)
    return best.top1 - point.top1 > _SIGNIFICANT * math.sqrt(max(variance, 0.0))


def setting_in_words(point: Point) -> str:
    """Grid of a point, and what of it goes through the model."""
    if point.method == FRAMES:
        return f"{point.grid}, all pixels"
    how = "all" if point.method == "none" else point.method
    return f"{point.grid}, {point.budget} tokens ({how})"


def in_words(point: Point) -> str:
    """Setting, accuracy and costs of a point, in a line."""
    return (
        f"{setting_in_words(point)}: {point.top1:.1%} of {point.videos} videos, "
        f"{point.gmacs:.3g} GMACs, {point.latency_ms:.2f} ms a view"
    )


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
    options = OptionParser(
        prog="python -m fluxjax.budgets.planner", description=__doc__.splitlines()[0]
    )
    options.add_argument("--report", required=True, metavar="FILE", help="budgets.json of a sweep")
    for name, (_, unit) in _LIMITS.items():
        options.add_argument(f"--{name}", type=float, help=f"at most this many {unit} a view")
    options.add_argument(
        "--within-noise", action="store_true",
        help="the cheapest setting that is not significantly less accurate than the best",
    )  # fmt: skip
    given = options.parse_args(arguments)
    try:
        limits = {name: getattr(given, name) for name in _LIMITS}
        point, line = plan_aloud(
            read_report(given.report), **limits, within_noise=given.within_noise
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(line, file=sys.stderr)
    names = ("grid", "budget", "method", "head", "gmacs", "latency_ms", "top1")
    print(json.dumps({name: getattr(point, name) for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
