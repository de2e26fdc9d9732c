"""Hand-made reports for tests."""

from fluxjax.budgets.points import Point, Report
from fluxjax.evaluation.machine import this_machine
from fluxjax.tokens.grids import parse_grid

SUBJECT = {"checkpoint": "0123", "data": "list.txt", "videos": 100}


def point(budget, top1, gmacs, ms, method="group_dynamic", grid="8x56"):
    return Point(
        grid=grid,
        tokens=parse_grid(grid).tokens(),
        budget=budget,
        method=method,
        head=0,
        gmacs=gmacs,
        top1=top1,
        top1_low=top1 - 0.05,
        top1_high=top1 + 0.03,
        top5=min(top1 + 0.1, 1.0),
        videos=100,
        latency_ms=ms,
        latency_low_ms=ms * 0.9,
        latency_high_ms=ms * 1.3,
        clips_per_second=1000 / ms,
        batch=64,
    )


POINTS = (
    point(128, 0.90, 0.130, 9.0, "none"),
    point(48, 0.88, 0.055, 5.0),
    point(48, 0.88, 0.050, 4.5, grid="6x56"),
    point(48, 0.95, 0.055, 4.0, "random"),
    point(48, 0.80, 0.055, 5.0, "uniform"),
    point(36, 0.70, 0.040, 3.0, "none", grid="4x42"),
    point(12, 0.75, 0.020, 2.5),
    point(12, 0.60, 0.020, 2.4, "uniform"),
    point(12, 0.75, 0.021, 2.6, "merge"),  # as accurate as another, and dearer
)
REPORT = Report(SUBJECT, this_machine(), POINTS)
