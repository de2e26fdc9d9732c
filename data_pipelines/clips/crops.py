"""Which rectangle of a frame: boxes in source pixels, later resized to the clip's resolution."""

import math

import numpy as np

from data_pipelines.reading.geometry import Box

CROPS = ("random_resized", "multi_scale")  # of training, as configs name them
_ATTEMPTS = 10  # of random_resized_crop, as everywhere in the field
# Of multi_scale_crop: (x, y) in quarters of the room that a box leaves.
_PLACES = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3),
    (3, 3),
)  # fmt: skip


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
    _check_frame(height, width)
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


def multi_scale_crop(height: int, width: int, rng: np.random.Generator, resolution: int) -> Box:
    """A box of one of four sizes a side at one of 13 places (TSN's crop; VideoMAE's pre-training).

    Sides are 1, 0.875, 0.75 or 0.66 of the short side, height and width at most one size apart,
    and the resolution itself where it is less than 3 pixels off.

    Args:
      height: of the frame, pixels.
      width: of the frame, pixels.
      rng: source of the draws.
      resolution: side of the square that the box is resized to, pixels.

    Raises:
      ValueError: if the frame is empty.
    """
    _check_frame(height, width)
    sides = [max(int(min(height, width) * scale), 1) for scale in (1, 0.875, 0.75, 0.66)]
    sides = [resolution if abs(side - resolution) < 3 else side for side in sides]
    sides = [min(side, height, width) for side in sides]
    pairs = [
        (rows, columns)
        for i, rows in enumerate(sides)
        for j, columns in enumerate(sides)
        if abs(i - j) <= 1
    ]
    rows, columns = pairs[int(rng.integers(len(pairs)))]
    across, down = _PLACES[int(rng.integers(len(_PLACES)))]
    return Box(down * ((height - rows) // 4), across * ((width - columns) // 4), rows, columns)


def view_crop(height: int, width: int, view: int, num_views: int, resolution: int) -> Box:
    """The square box of one of the spatial views of a test clip.

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

    Raises:
      ValueError: if the frame is empty, there is no such view, or S is smaller than 1.
    """
    _check_frame(height, width)
    if not 0 <= view < num_views:
        raise ValueError(f"there is no view {view} of {num_views}; views are numbered from 0")
    if resolution < 1:
        raise ValueError(f"resolution must be positive, got {resolution}")
    short, long = min(height, width), max(height, width)
    resized, offset = long_side_view(short, long, view, num_views, resolution)
    # Matching centres rather than edges spreads what the truncation of the long side leaves over.
    centre = (offset + resolution / 2) * long / resized
    start = min(max(round(centre - short / 2), 0), long - short)
    return Box(start, 0, short, short) if height > width else Box(0, start, short, short)


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


def _check_frame(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"a frame needs positive sides, got {height} x {width}")
