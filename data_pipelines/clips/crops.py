"""Which rectangle of a frame: boxes in source pixels, later resized to the clip's resolution."""

import math
from typing import NamedTuple

import numpy as np

from data_pipelines.reading.geometry import Box

_ATTEMPTS = 10  # of random_resized_crop, as everywhere in the field


def random_resized_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A box of random area and aspect (Inception crop; FluxViT's and VideoMAE's fine-tuning).

    The area is uniform in `scale` of the frame's, the aspect width / height log-uniform in
    `ratio`. If ten such boxes do not fit, the largest centred box within `ratio` is taken.

    Args:
      height: of the frame, pixels.
      width: of the frame, pixels.
      rng: source of the draws.
      scale: smallest and largest share of the frame's area.
      ratio: smallest and largest aspect.

    Raises:
      ValueError: if the frame is empty, or a range is not positive and ascending.
    """
    check_frame(height, width)
    if not 0 < scale[0] <= scale[1] or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(
            f"scale and ratio must be positive ascending ranges, got scale {scale}, ratio {ratio}"
        )
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = rng.integers((height - rows, width - columns), endpoint=True)
            return Box(int(top), int(left), rows, columns)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    rows = max(min(height, round(width / aspect)), 1)
    columns = max(min(width, round(height * aspect)), 1)
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


class ViewPlaces(NamedTuple):
    """Where the square views of a test clip lie.

    Attributes:
      share: side of a view / short side of the frame: 224 / 256 where the short side is scaled to
        256 pixels and 224 of them are cut.
      single: where a single view lies, "centre", or "start" for the left or top end, which
        PySlowFast-based releases take for one crop by mistake; "whole" for the whole picture,
        whose aspect is lost, as UMT has it.
    """

    share: float = 1.0
    single: str = "centre"


WHOLE = ViewPlaces()  # views fill the short side


def view_crop(
    height: int,
    width: int,
    view: int,
    num_views: int,
    resolution: int,
    places: ViewPlaces = WHOLE,
) -> Box:
    """The box of one of the spatial views of a test clip.

    FluxViT's release resizes the short side to S = `resolution` (the long side truncated), then
    crops S x S at num_views evenly spaced offsets along the long side, or in its middle for a
    single view. This is that crop in source pixels, to be resized to S x S: it has the same
    centre up to half a source pixel, and the short side as its side. The release crops 3 views of
    SSv2 in the same way, and fails on a single one.

    Args:
      height: of the frame, pixels.
      width: of the frame, pixels.
      view: number of the view, 0 the leftmost or topmost.
      num_views: views a clip.
      resolution: S, side of the square that the box is resized to, pixels.
      places: with a smaller share, views are as much smaller, and centred along the short side.

    Returns:
      A square, but for a single view of the "whole" picture.

    Raises:
      ValueError: if the frame is empty, there is no such view, or S is smaller than 1.
    """
    check_frame(height, width)
    if places.single == "whole" and num_views == 1:
        return Box(0, 0, height, width)
    if not 0 <= view < num_views:
        raise ValueError(f"there is no view {view} of {num_views}; views are numbered from 0")
    if resolution < 1:
        raise ValueError(f"resolution must be positive, got {resolution}")
    short, long = min(height, width), max(height, width)
    resized, offset = long_side_view(short, long, view, num_views, resolution)
    # Matching centres rather than edges spreads what the truncation of the long side leaves over.
    centre = (offset + resolution / 2) * long / resized
    start = min(max(round(centre - short / 2), 0), long - short)
    side = max(round(places.share * short), 1)
    if side < short:
        start = _start(long - side, view, num_views)
    if places.single == "start" and num_views == 1:
        start = 0
    across = (short - side) // 2
    return Box(start, across, side, side) if height > width else Box(across, start, side, side)


def _start(room: int, view: int, num_views: int) -> int:
    """Where a view begins that can be moved by `room` pixels: evenly spaced, or in the middle."""
    return room // 2 if num_views == 1 else round(view * room / (num_views - 1))


def long_side_view(
    short: int, long: int, view: int, num_views: int, resolution: int
) -> tuple[int, int]:
    """How FluxViT's and EVL's releases place a view: the resized long side, and the view's offset.

    Args:
      short, long: sides of the frame, pixels.
      view, num_views, resolution: see `view_crop`.
    """
    resized = long * resolution // short
    margin = resized - resolution
    return resized, margin // 2 if num_views == 1 else view * margin // (num_views - 1)


def check_frame(height: int, width: int) -> None:
    """Refuses a frame without pixels; `ValueError`."""
    if height < 1 or width < 1:
        raise ValueError(f"a frame needs positive sides, got {height} x {width}")
