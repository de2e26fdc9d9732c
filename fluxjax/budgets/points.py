"""The measured points of a sweep: their files, and the set that nothing else beats."""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fluxjax.evaluation.tables import markdown_table, replace_text
from fluxjax.serving.settings import Setting
from fluxjax.tokens.grids import parse_grid

_FORMAT = 1
_VIDEOS = ("data", "split", "videos")  # of a subject: which videos were counted


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting with what was measured of it.

    Attributes:
      grid: FRAMESxRESOLUTION.
      tokens: tokens the grid has.
      budget: tokens that go through the transformer.
      method: see `fluxjax.serving.settings.METHODS`.
      head: that answered.
      gmacs: giga multiply-accumulates a view.
      top1, top5: shares in [0, 1], views averaged.
      top1_low, top1_high: 95 % interval of top1.
      videos: counted.
      latency_ms: median milliseconds of one view alone, pixels to logits.
      latency_low_ms, latency_high_ms: 10th and 90th percentile of the same.
      clips_per_second: views through the model in batches, median.
      batch: views in such a batch.
      unreadable: videos among those counted that could not be read; they count as wrong.
    """

    grid: str
    tokens: int
    budget: int
    method: str
    head: int
    gmacs: float
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    videos: int
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    clips_per_second: float
    batch: int
    unreadable: int = 0  # not in the reports of earlier versions

    @property
    def setting(self) -> Setting:
        """How to run the model."""
        return Setting(parse_grid(self.grid), self.budget, self.method, self.head)


@dataclasses.dataclass(frozen=True)
class Report:
    """A sweep of one checkpoint on one data set.

    Attributes:
      subject: what was measured: checkpoint, data and views. Points of different subjects cannot
        be compared.
      machine: where latencies were measured.
      points: in the order of measuring.
      made: when and with which command, as text; not in the reports of earlier versions.
    """

    subject: Mapping[str, Any]
    machine: Mapping[str, Any]
    points: tuple[Point, ...]
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)


def pareto(points: Sequence[Point], cost: str) -> tuple[Point, ...]:
    """Points that no other beats, by rising cost: none is as accurate and cheaper.

    Args:
      points: of one report.
      cost: name of the attribute to be small, e.g. "gmacs" or "latency_ms".
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (getattr(p, cost), -p.top1)):
        if not best or point.top1 > best[-1].top1:
            best.append(point)
    return tuple(best)


def write_report(report: Report, path: pathlib.Path) -> None:
    """Writes budgets.json, and the table as CSV beside it; each whole or not at all."""
    fronts = {cost: [report.points.index(p) for p in pareto(report.points, cost)]
              for cost in ("gmacs", "latency_ms")}  # fmt: skip
    record = {
        "format": _FORMAT,
        "subject": report.subject,
        "machine": report.machine,
        "made": dict(report.made),
        "points": [dataclasses.asdict(point) for point in report.points],
        "pareto": fronts,
    }
    table = io.StringIO()
    names = [field.name for field in dataclasses.fields(Point)]
    writer = csv.DictWriter(table, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record["points"])
    replace_text(path, json.dumps(record, indent=2) + "\n")
    replace_text(path.with_suffix(".csv"), table.getvalue())


def read_report(path: str | os.PathLike) -> Report:
    """Reads what `write_report` wrote.

    Raises:
      FileNotFoundError: if there is no such file; names the command that makes one.
      ValueError: if it is damaged or of another format.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no report {path}; `python -m fluxjax.budgets --checkpoint RUN` makes one"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']!r}, expected {_FORMAT}")
        points = tuple(Point(**point) for point in record["points"])
        return Report(record["subject"], record["machine"], points, record.get("made", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no report of fluxjax.budgets: {error}") from error


def reports_beside(paths: Sequence[str], report: Report) -> dict[str, Report]:
    """Name -> report of other models on the same videos, for a page with `report`.

    Names are those of the files' folders.

    Raises:
      FileNotFoundError, ValueError: as `read_report`; if two have the same name, or the videos are
        not the same.
    """
    found: dict[str, Report] = {}
    for path in map(pathlib.Path, paths):
        name, other = path.resolve().parent.name, read_report(path)
        for key in _VIDEOS:
            mine, its = report.subject.get(key), other.subject.get(key)
            if mine != its:
                raise ValueError(f"{path} cannot stand beside: its {key} is {its!r}, not {mine!r}")
        if name in found:
            raise ValueError(f"two reports lie in folders called {name!r}; rename one of them")
        found[name] = other
    return found


def format_points(points: Sequence[Point]) -> str:
    """The points as a Markdown table, most accurate first within each budget."""
    head = ("budget", "grid", "method", "GMACs", "top-1 (95 % interval)", "top-5",
            "ms (10-90 %)", "clips/s")  # fmt: skip
    ordered = sorted(points, key=lambda p: (-p.budget, -p.top1, p.gmacs))
    body = [
        (
            str(p.budget),
            p.grid,
            p.method,
            f"{p.gmacs:.3g}",
            f"{p.top1:.1%} ({p.top1_low:.1%} to {p.top1_high:.1%})",
            f"{p.top5:.1%}",
            f"{p.latency_ms:.2f} ({p.latency_low_ms:.2f} to {p.latency_high_ms:.2f})",
            f"{p.clips_per_second:.1f}",
        )
        for p in ordered
    ]
    return markdown_table(head, body)
