"""Labels beside the points of a figure, placed so that they cover neither points nor each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

# Where a label goes, seen from its point: (right, up, distance in text points), by preference.
_PLACES = [
    (x, y, distance)
    for distance in (6, 13, 22)
    for x, y in ((1, -1), (-1, 1), (1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
]
_ALIGNED = {1: "left", 0: "center", -1: "right"}
_RAISED = {1: "bottom", 0: "center", -1: "top"}
_MARKER = 4  # half the side of the box that a point takes, in text points


def label_points(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    markers: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> int:
    """Writes labels; one for which there is no free place is left out.

    A place is free if it lies within the axes and touches no point and no other label. Of the free
    ones the first that crosses the fewest lines is taken.

    Args:
      axes: everything else is drawn, scales are set.
      labels: (x, y, text, colour), the most important first.
      markers: all points [(x, y)], labelled or not.
      lines: each [(x, y)], its corners.

    Returns:
      How many labels were left out.
    """
    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # the layout decides where points are
    point = figure.dpi / 72  # pixels
    taken = [_around(axes.transData.transform(place), _MARKER * point) for place in markers]
    segments = _segments(axes, lines, step=2 * point)
    left_out = 0
    for x, y, text, colour in labels:
        note = axes.annotate(
            text, (x, y), (0, 0), textcoords="offset points", fontsize=7, color=colour
        )
        note.set_in_layout(False)
        best = None
        for right, up, distance in _PLACES:
            _move(note, right, up, distance)
            box = note.get_window_extent(renderer).padded(point)
            if not _inside(box, axes.bbox) or any(box.overlaps(other) for other in taken):
                continue
            crossed = box.count_contains(segments) if len(segments) else 0
            if best is None or crossed < best[0]:
                best = crossed, (right, up, distance), box
        if best is None:
            note.remove()
            left_out += 1
            continue
        _move(note, *best[1])
        taken.append(best[2])
    return left_out


def _move(note, right: int, up: int, distance: float) -> None:
    note.xyann = (right * distance, up * distance * 0.7)
    note.set_horizontalalignment(_ALIGNED[right])
    note.set_verticalalignment(_RAISED[up])


def _around(place: np.ndarray, half: float) -> Bbox:
    return Bbox([place - half, place + half])


def _inside(box: Bbox, outer: Bbox) -> bool:
    return outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1


def _segments(axes: Axes, lines, step: float) -> np.ndarray:
    """Places [N, 2] along all lines, in pixels, `step` apart."""
    places = []
    for line in lines:
        corners = axes.transData.transform(np.asarray(line, float))
        for a, b in zip(corners, corners[1:], strict=False):
            count = max(int(np.hypot(*(b - a)) / step), 2)
            places.append(np.linspace(a, b, count))
    return np.concatenate(places) if places else np.zeros((0, 2))
