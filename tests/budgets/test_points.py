"""Reports, the Pareto set and the planner."""

import csv
import dataclasses
import json

import pytest

from fluxjax.budgets import planner
from fluxjax.budgets.figures import curve
from fluxjax.budgets.planner import plan
from fluxjax.budgets.points import format_points, pareto, read_report, write_report
from tests.budgets.reports import POINTS, REPORT, point


def beats(a, b, cost):
    as_good = a.top1 >= b.top1 and getattr(a, cost) <= getattr(b, cost)
    return as_good and (a.top1 > b.top1 or getattr(a, cost) < getattr(b, cost))


@pytest.mark.parametrize("cost", ["gmacs", "latency_ms"])
def test_the_pareto_set_is_what_nothing_beats(cost):
    front = pareto(POINTS, cost)
    costs = [getattr(p, cost) for p in front]
    assert costs == sorted(costs) and len(set(costs)) == len(costs)
    for candidate in POINTS:
        assert (candidate in front) == (not any(beats(p, candidate, cost) for p in POINTS))


def test_reports_survive_their_files(tmp_path):
    path = tmp_path / "budgets.json"
    write_report(REPORT, path)
    assert read_report(path) == REPORT
    stored = json.loads(path.read_text())
    assert [POINTS[i] for i in stored["pareto"]["gmacs"]] == list(pareto(POINTS, "gmacs"))
    with open(tmp_path / "budgets.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["budget"]), float(r["top1"])) for r in rows] == [
        (p.budget, p.top1) for p in POINTS
    ]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["budgets.csv", "budgets.json"]
    assert POINTS[2].setting.grid == (6, 56) and POINTS[2].setting.budget == 48


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 7}', '{"format": 1, "points": [{}]}'])
def test_other_files_are_no_reports(tmp_path, text):
    path = tmp_path / "budgets.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"budgets\.json is no report of fluxjax\.budgets"):
        read_report(path)
    with pytest.raises(FileNotFoundError, match=r"python -m fluxjax\.budgets"):
        read_report(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("limits", "budget", "grid"),
    [
        ({"tokens": 128}, 128, "8x56"),
        ({"tokens": 127}, 48, "6x56"),  # as accurate as 8x56, and cheaper
        ({"tokens": 47}, 12, "8x56"),  # 36 tokens of a plain grid are worse
        ({"gmacs": 0.04}, 12, "8x56"),
        ({"ms": 4.6}, 48, "6x56"),
        ({"ms": 4.6, "gmacs": 0.02}, 12, "8x56"),
    ],
)
def test_the_plan_is_the_most_accurate_within_the_limits(limits, budget, grid):
    found = plan(REPORT, **limits)
    assert (found.budget, found.grid, found.method != "random") == (budget, grid, True)


def test_plans_that_cannot_be_made():
    with pytest.raises(ValueError, match="at most 2 ms; the least are 2.4 ms"):
        plan(REPORT, ms=2)
    with pytest.raises(ValueError, match="at most 5 tokens and 1 GMACs; the least are 12 tokens"):
        plan(REPORT, tokens=5, gmacs=1)
    with pytest.raises(ValueError, match="needs a limit: one of tokens, gmacs, ms"):
        plan(REPORT)
    elsewhere = dataclasses.replace(REPORT, machine={"processor": "Other 9000", "cores": 1})
    with pytest.raises(ValueError, match="another machine .Other 9000"):
        plan(elsewhere, ms=5)
    assert plan(elsewhere, gmacs=0.05).budget == 48, "GMACs hold everywhere"


def test_the_planner_as_a_command(tmp_path, capsys):
    path = tmp_path / "budgets.json"
    write_report(REPORT, path)
    assert planner.main(["--report", str(path), "--tokens", "60"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["grid"], found["budget"], found["head"], found["top1"]) == ("6x56", 48, 0, 0.88)
    assert planner.main(["--report", str(path), "--ms", "0.1"]) == 1
    assert "error: no measured setting needs at most 0.1 ms" in capsys.readouterr().err


def test_curves_take_the_best_grid_of_each_budget():
    optimized = curve(POINTS, "group_dynamic", "gmacs")
    assert [(p.budget, p.grid) for p in optimized] == [(12, "8x56"), (48, "6x56")]
    assert [p.budget for p in curve(POINTS, "none", "gmacs")] == [36, 128]
    worse = (*POINTS, point(64, 0.5, 0.06, 6.0, "none", grid="4x56"))
    assert [p.budget for p in curve(worse, "none", "gmacs")] == [36, 128]
    assert curve(POINTS, "unheard of", "gmacs") == ()


def test_the_table_names_every_point():
    table = format_points(POINTS).splitlines()
    assert len(table) == 2 + len(POINTS) and len({len(line) for line in table}) == 1
    cells = [cell.strip() for cell in table[4].strip("| ").split("|")]
    assert cells == ["48", "6x56", "group_dynamic", "0.05", "88.0% (83.0% to 91.0%)", "98.0%",
                     "4.50 (4.05 to 5.85)", "222.2"]  # fmt: skip
