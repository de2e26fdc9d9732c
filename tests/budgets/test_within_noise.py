"""The planner's "cheapest within noise": a two-proportion test on counts of videos."""

import dataclasses
import json

import pytest

from fluxjax.budgets import planner
from fluxjax.budgets.planner import plan, plan_aloud, significantly_below
from fluxjax.budgets.points import Report, read_report, write_report
from fluxjax.evaluation.machine import this_machine
from tests.budgets.reports import POINTS, REPORT, SUBJECT, point


def measured(hits, videos, budget=48, gmacs=0.05, ms=5.0, method="group_dynamic"):
    made = point(budget, hits / videos, gmacs, ms, method)
    return dataclasses.replace(made, videos=videos)


# 97.9 % and 96.9 % of 96 videos, the first at three times the time.
DEAR, CHEAP = measured(94, 96, 128, 0.13, 9.0), measured(93, 96, 48, 0.05, 3.0)
WORSE = measured(80, 96, 12, 0.02, 2.0)
SMALL = Report(SUBJECT, this_machine(), (DEAR, CHEAP, WORSE))


@pytest.mark.parametrize(
    ("better", "worse", "videos", "significant"),
    [
        (94, 93, 96, False),  # z = 0.45
        (94, 80, 96, True),  # z = 3.47
        (979, 969, 1000, False),  # z = 1.40
        (9790, 9690, 10000, True),  # z = 4.43
        (60, 46, 100, True),  # z = 1.98
        (60, 47, 100, False),  # z = 1.84; the 95 % intervals of both pairs overlap
        (100, 100, 100, False),  # no variance at all
        (100, 97, 100, False),  # z = 1.75
        (100, 95, 100, True),  # z = 2.26
    ],
)
def test_what_is_significant(better, worse, videos, significant):
    assert significantly_below(measured(worse, videos), measured(better, videos)) is significant


def test_the_cheapest_within_noise_is_named_beside_the_most_accurate():
    assert plan(SMALL, ms=10) is DEAR
    assert plan(SMALL, ms=10, within_noise=True) is CHEAP
    chosen, line = plan_aloud(SMALL, ms=10)
    assert chosen is DEAR
    assert line == (
        "8x56, 128 tokens (group_dynamic): 97.9% of 96 videos, 0.13 GMACs, 9.00 ms a view; "
        "cheapest within its noise: 8x56, 48 tokens (group_dynamic): 96.9% of 96 videos, "
        "0.05 GMACs, 3.00 ms a view"
    )
    chosen, line = plan_aloud(SMALL, ms=10, within_noise=True)
    assert chosen is CHEAP and "; most accurate: 8x56, 128 tokens" in line
    chosen, line = plan_aloud(SMALL, ms=2.5)
    assert chosen is WORSE and line.endswith("nothing cheaper is as good within the noise")


def test_cheap_is_what_the_limit_counts():
    slow = measured(94, 96, 64, gmacs=0.04, ms=8.0)
    report = dataclasses.replace(SMALL, points=(*SMALL.points, slow))
    assert plan(report, tokens=200, within_noise=True) is slow  # fewest GMACs
    assert plan(report, ms=10, within_noise=True) is CHEAP  # least time
    assert plan(report, ms=10, gmacs=0.045, within_noise=True) is slow


def test_random_selection_is_never_planned_and_sets_no_mark():
    lucky = measured(96, 96, 12, 0.01, 1.0, method="random")
    report = dataclasses.replace(SMALL, points=(*SMALL.points, lucky))
    assert plan(report, ms=10, within_noise=True) is CHEAP
    assert plan(REPORT, tokens=128, within_noise=True) is POINTS[2]  # 88 % at 0.05, not 0.055


def test_the_command(tmp_path, capsys):
    path = tmp_path / "budgets.json"
    write_report(SMALL, path)
    for more, budget in ((), 128), (("--within-noise",), 48):
        assert planner.main(["--report", str(path), "--ms", "10", *more]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["budget"] == budget
        assert "97.9%" in shown.err and "96.9%" in shown.err


@pytest.mark.parametrize("gone", [(), ("made",), ("made", "pareto")])
def test_reports_of_earlier_versions_open(tmp_path, gone):
    path = tmp_path / "budgets.json"
    write_report(dataclasses.replace(SMALL, made={"date": "2026-11-26 20:00"}), path)
    record = json.loads(path.read_text())
    for name in gone:
        del record[name]
    if gone:
        for row in record["points"]:
            del row["unreadable"]
    path.write_text(json.dumps(record))
    report = read_report(path)
    assert report.points == SMALL.points
    assert report.made == ({} if gone else {"date": "2026-11-26 20:00"})
