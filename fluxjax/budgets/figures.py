"""Accuracy against cost, in the style of the paper's: plain grids and Token Optimization."""

import io
import itertools
import pathlib
import types
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fluxjax.budgets.point_labels import label_points
from fluxjax.budgets.points import Point, pareto
from fluxjax.serving.settings import FRAMES, METHODS

NOTHING: Mapping[str, Sequence[Point]] = types.MappingProxyType({})
PLAIN = "plain grids, all tokens"
# Colours of Okabe and Ito, which colour-blind readers tell apart, for light and dark paper.
_STYLES = {  # label, colours, marker
    "none": (PLAIN, ("#000000", "#ffffff"), "s"),
    "group_dynamic": ("Token Optimization (group-dynamic)", ("#D55E00", "#ff7f2a"), "o"),
    "places": ("the places that change most", ("#D55E00", "#ff7f2a"), "o"),
    "uniform": ("uniform selection", ("#0072B2", "#56B4E9"), "v"),
    "merge": ("merging (vid-TLDR)", ("#CC79A7", "#e59cc4"), "D"),
    "group_dynamic+merge": ("selection, then merging", ("#a36f00", "#E69F00"), "P"),
    "frames": ("frame numbers, all pixels", ("#56606b", "#aab4bf"), "X"),
    "random": ("random selection", ("#009E73", "#2fc99b"), "^"),
}
_INK = ("#222222", "#dddddd")
_WIDE, _NARROW = (9.6, 4.8), (4.4, 5.2)  # inches
_COSTS = {
    "gmacs": "GMACs a view",
    "latency_ms": "milliseconds a view, median (batch of one)",
}


def curve(points: Sequence[Point], method: str, cost: str) -> tuple[Point, ...]:
    """The points that a method's line goes through, by rising cost.

    For a selection the best grid of each budget, which is what Token Optimization chooses. Plain
    grids and frame numbers have as many budgets as grids; their line goes through those that no
    cheaper one beats.
    """
    own = [point for point in points if point.method == method]
    if method in ("none", FRAMES):
        return pareto(own, cost)
    budgets = {point.budget for point in own}
    best = (max((p for p in own if p.budget == b), key=lambda p: (p.top1, -p.gmacs))
            for b in budgets)  # fmt: skip
    return tuple(sorted(best, key=lambda p: getattr(p, cost)))


def accuracy_figure(
    points: Sequence[Point],
    cost: str,
    beside: Mapping[str, Sequence[Point]] = NOTHING,
    *,
    dark: bool = False,
    narrow: bool = False,
) -> Figure:
    """Top-1 with 95 % intervals against "gmacs" or "latency_ms", a line a method.

    Points on a line are labelled GRID:BUDGET where there is room.

    Args:
      points: of one report.
      cost: the horizontal axis.
      beside: name -> points of the report of another model; dashed lines.
      dark: light ink, for a dark page.
      narrow: for the width of a phone.
    """
    ink = _INK[dark]
    figure = Figure(figsize=_NARROW if narrow else _WIDE, layout="constrained")
    axes = figure.add_subplot()
    labels, lines = [], []
    groups = [("", points), *beside.items()]
    for (name, points), method in itertools.product(groups, METHODS):
        chosen = curve(points, method, cost)
        if not chosen:
            continue
        label, colours, marker = _STYLES[method]
        label, style = (f"{name}: {label}", "--") if name else (label, "-")
        colour = colours[dark]
        x = [getattr(p, cost) for p in chosen]
        top1 = [100 * p.top1 for p in chosen]
        low, high = [100 * p.top1_low for p in chosen], [100 * p.top1_high for p in chosen]
        errors = np.subtract(top1, low), np.subtract(high, top1)
        axes.errorbar(x, top1, yerr=errors, label=label, color=colour, marker=marker,
                      linestyle=style, capsize=2, elinewidth=0.7, linewidth=1.4,
                      markersize=5)  # fmt: skip
        rest = [p for p in points if p.method == method and p not in chosen]
        axes.scatter([getattr(p, cost) for p in rest], [100 * p.top1 for p in rest],
                     color=colour, marker=marker, s=12, alpha=0.35)  # fmt: skip
        lines += [list(zip(x, top1, strict=True))]
        lines += [[(a, b), (a, c)] for a, b, c in zip(x, low, high, strict=True)]
        labels += [(a, b, f"{p.grid}:{p.budget}", colour, p.method == "random")
                   for a, b, p in zip(x, top1, chosen, strict=True)]  # fmt: skip
    log_axis(axes.xaxis)
    axes.set_xlabel(_COSTS[cost])
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=1 if narrow else 3, frameon=False,
                  fontsize="small", labelcolor=ink)  # fmt: skip
    _ink(axes, ink)
    # Those that nobody would run come last, if there is room for them.
    labels.sort(key=lambda label: (label[4], -label[1]))
    markers = [(getattr(p, cost), 100 * p.top1) for _, own in groups for p in own]
    label_points(axes, [label[:4] for label in labels], markers, lines)
    return figure


def figure_variants(
    points: Sequence[Point], cost: str, beside: Mapping[str, Sequence[Point]] = NOTHING
) -> dict[str, bytes]:
    """Media query -> SVG of `accuracy_figure`, the most special first; "" is for all others."""
    dark, narrow = "(prefers-color-scheme: dark)", "(max-width: 40em)"
    kinds = {
        f"{narrow} and {dark}": {"narrow": True, "dark": True},
        narrow: {"narrow": True},
        dark: {"dark": True},
        "": {},
    }
    return {
        media: svg(accuracy_figure(points, cost, beside, **kind), clear=True)
        for media, kind in kinds.items()
    }


def _ink(axes, colour: str) -> None:
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=colour)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(colour)
    for spine in axes.spines.values():
        spine.set_color(colour)


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


def svg(figure: Figure, clear: bool = False) -> bytes:
    """The figure as SVG; letters as outlines, so that it looks the same everywhere.

    The ground is white, or transparent if it is to be `clear`.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fluxjax", "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", facecolor="none" if clear else "white", metadata={"Date": None}
        )
    return buffer.getvalue()
