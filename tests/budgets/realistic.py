"""A report as a sweep of the demo makes it: 17 points over four methods, 96 videos, near the top.

Points lie close together, intervals overlap, times are all but equal: what a page must bear.
"""

import dataclasses

from fluxjax.budgets.points import Report
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.machine import this_machine
from tests.budgets.reports import point

_ROWS = (  # grid, budget, method, hits of 96, GMACs, ms
    ("8x56", 128, "none", 94, 0.1312, 3.41),
    ("6x56", 96, "none", 93, 0.0958, 2.62),
    ("4x56", 64, "none", 91, 0.0627, 1.84),
    ("8x42", 72, "none", 90, 0.0705, 2.05),
    ("4x42", 36, "none", 84, 0.0349, 1.21),
    ("8x28", 32, "none", 78, 0.0311, 1.13),
    ("8x56", 48, "group_dynamic", 93, 0.0521, 1.66),
    ("6x56", 48, "group_dynamic", 92, 0.0509, 1.60),
    ("8x56", 24, "group_dynamic", 90, 0.0277, 1.10),
    ("6x56", 24, "group_dynamic", 89, 0.0265, 1.06),
    ("8x56", 12, "group_dynamic", 83, 0.0164, 0.89),
    ("8x56", 48, "uniform", 90, 0.0521, 1.67),
    ("8x56", 24, "uniform", 82, 0.0277, 1.11),
    ("8x56", 12, "uniform", 69, 0.0164, 0.90),
    ("8x56", 48, "merge", 92, 0.0683, 2.31),
    ("8x56", 24, "merge", 88, 0.0467, 1.79),
    ("8x56", 12, "merge", 80, 0.0344, 1.44),
)


def _measured(grid, budget, method, hits, gmacs, ms):
    low, high = wilson_interval(hits, 96)
    made = point(budget, hits / 96, gmacs, ms, method, grid)
    return dataclasses.replace(made, top1_low=low, top1_high=high, videos=96)


REALISTIC = Report(
    {
        "checkpoint": "8c1f02b7d9e4a635", "model": "FluxViT", "data": "demo:easy",
        "split": "test", "videos": 96, "sampling": "sparse", "clips": 1, "crops": 1,
    },
    this_machine(),
    tuple(_measured(*row) for row in _ROWS),
    {
        "date": "2026-11-26 20:25+00:00",
        "command": "python -m fluxjax.budgets --checkpoint=runs/fluxvit_ti-2026-11-26 --videos=96",
    },
)  # fmt: skip
