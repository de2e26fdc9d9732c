"""Accuracy against cost, in the style of the paper's: plain grids and Token Optimization."""

import io
import pathlib
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fluxjax.budgets.points import Point, pareto
from fluxjax.serving.settings import METHODS

PLAIN = "plain grids, all tokens"
# Colours of Okabe and Ito, which colour-blind readers tell apart; (label, colour, marker).
_STYLES = {
    "none": (PLAIN, "#000000", "s"),
    "group_dynamic": ("Token Optimization (group-dynamic)", "#D55E00", "o"),
    "places": ("the places that change most", "#D55E00", "o"),
    "uniform": ("uniform selection", "#0072B2", "v"),
    "merge": ("merging (vid-TLDR)", "#CC79A7", "D"),
    "group_dynamic+merge": ("selection, then merging", "#E69F00", "P"),
    "random": ("random selection", "#009E73", "^"),
}
_COSTS = {
    "gmacs": "GMACs a view",
    "latency_ms": "milliseconds a view, median (batch of one)",
}


def curve(points: Sequence[Point], method: str, cost: str) -> tuple[Point, ...]:
    """The points that a method's line goes through, by rising cost.

    For a selection the best grid of each budget, which is what Token Optimization chooses. Plain
    grids have as many budgets as grids; their line goes through those that no cheaper one beats.
    """
    own = [point for point in points if point.method == method]
    if method == "none":
        return pareto(own, cost)
    budgets = {point.budget for point in own}
    best = (max((p for p in own if p.budget == b), key=lambda p: (p.top1, -p.gmacs))
            for b in budgets)  # fmt: skip
    return tuple(sorted(best, key=lambda p: getattr(p, cost)))


def accuracy_figure(points: Sequence[Point], cost: str) -> Figure:
    """Top-1 with 95 % intervals against "gmacs" or "latency_ms", a line a method."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for method in METHODS:
        chosen = curve(points, method, cost)
        if not chosen:
            continue
        label, colour, marker = _STYLES[method]
        x = [getattr(p, cost) for p in chosen]
        top1 = [100 * p.top1 for p in chosen]
        below = [100 * (p.top1 - p.top1_low) for p in chosen]
        above = [100 * (p.top1_high - p.top1) for p in chosen]
        axes.errorbar(x, top1, yerr=(below, above), label=label, color=colour, marker=marker,
                      capsize=2, elinewidth=0.7, linewidth=1.4, markersize=5)  # fmt: skip
        rest = [p for p in points if p.method == method and p not in chosen]
        axes.scatter([getattr(p, cost) for p in rest], [100 * p.top1 for p in rest],
                     color=colour, marker=marker, s=12, alpha=0.35)  # fmt: skip
    log_axis(axes.xaxis)
    axes.set_xlabel(_COSTS[cost])
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def log_axis(axis) -> None:
    """A logarithmic axis whose ticks are plain numbers."""
    axis.axes.set_xscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, folder: pathlib.Path, name: str) -> None:
    """Writes name.svg and name.png; equal figures give equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_bytes(svg(figure))
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    """The figure as SVG; letters as outlines, so that it looks the same everywhere."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fluxjax", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
