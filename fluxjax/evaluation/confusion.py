"""A picture of which classes are taken for which."""

import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fluxjax.evaluation.answers import Answers

NUMBERED = 25  # classes up to which every cell shows its share
NAMED = 60  # classes up to which every class is named; of more, some


def draw_confusion(answers: Answers, path: str | os.PathLike) -> None:
    """Writes a PNG: rows are the true classes, each normalised to the share of its videos."""
    counts = answers.confusion()
    classes = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = float(np.clip(2.5 + 0.32 * classes, 4.5, 18.0))
    figure = Figure(figsize=(side + 1.5, side), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the class's videos", shrink=0.8)
    ticks = np.arange(0, classes, max(1, -(-classes // NAMED)))
    names = [_short(answers.name(int(number))) for number in ticks]
    axes.set_xticks(ticks, names, rotation=90 if classes > 6 else 0)
    axes.set_yticks(ticks, names)
    axes.tick_params(labelsize=9 if classes <= 30 else 7)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = int(np.trace(counts))
    axes.set_title(f"{answers.where}: {right} of {int(counts.sum())} readable videos right")
    if classes <= NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                colour = "white" if share > 0.55 else "black"
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=colour,
                          fontsize=8)  # fmt: skip
    figure.savefig(path, format="png")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
