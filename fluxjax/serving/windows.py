"""A long video, window by window: spans of seconds, and a picture of the scores over time."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWN = 8  # classes in a picture


class Window(NamedTuple):
    """A span of a video, in seconds of its own clock."""

    start: float
    end: float


def windows(start: float, end: float, length: float, stride: float) -> list[Window]:
    """Windows of one length, `stride` apart; the last one ends with the span, whatever its start.

    A span shorter than a window is one window.

    Args:
      start, end: seconds of the span.
      length: seconds of a window.
      stride: seconds from one start to the next.

    Raises:
      ValueError: if one of the lengths is not positive.
    """
    for name, value in (("window", length), ("stride", stride), ("end - start", end - start)):
        if not value > 0:
            raise ValueError(f"{name} of {value:g} s must be positive")
    last = max(start, end - length)
    count = int(np.floor((last - start) / stride + 1e-9)) + 1
    starts = [start + number * stride for number in range(count)]
    if last - starts[-1] > 1e-6:
        starts.append(last)
    return [Window(first, min(first + length, end)) for first in starts]


def plot_scores(
    target: str | os.PathLike,
    spans: Sequence[Window],
    probabilities: np.ndarray,
    labels: Sequence[str] | None,
) -> None:
    """Writes a PNG: the likeliest classes' probabilities over time, at the windows' middles.

    Args:
      target: file to write.
      spans: of the windows.
      probabilities: [windows, K] float32.
      labels: names of the classes, None for numbers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    middles = [(window.start + window.end) / 2 for window in spans]
    for index in np.argsort(-probabilities.max(axis=0), kind="stable")[:_DRAWN].tolist():
        name = f"class {index}" if labels is None else labels[index]
        axes.plot(middles, probabilities[:, index], marker=".", label=name)
    axes.set(xlabel="seconds", ylabel="probability", ylim=(0, 1))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(target, format="png", dpi=120)
