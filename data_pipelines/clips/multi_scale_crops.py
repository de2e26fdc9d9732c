"""TSN's multi-scale crop: one of a few sizes at one of thirteen fixed places.

Source: "Temporal Segment Networks" (arXiv 1608.00859, section 3.3), as VideoMAE and UMT have it.
"""

import numpy as np

from data_pipelines.reading.geometry import Box

SCALES = (1.0, 0.875, 0.75, 0.66)
_NEAR = 3  # pixels: a side that differs from the output's by less becomes it


def crop_sizes(
    height: int, width: int, output: int, scales: tuple[float, ...] = SCALES
) -> list[tuple[int, int]]:
    """The (height, width) that a crop may have: shares of the short side, nearly square.

    Args:
      height, width: of the frame, pixels.
      output: side of the square that the crop is resized to, pixels.
      scales: shares of the frame's short side, descending; a crop's two sides are neighbours among
        them or equal.
    """
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [output if abs(side - output) < _NEAR else side for side in sides]
    return [
        (rows, columns)
        for i, rows in enumerate(sides)
        for j, columns in enumerate(sides)
        if abs(i - j) <= 1
    ]


def crop_places(height: int, width: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """The 13 (top, left) of a crop: corners, centre, middles of the edges, quarter points."""
    down, right = (height - rows) // 4, (width - columns) // 4
    steps = (
        *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2)),
        *((1, 1), (1, 3), (3, 1), (3, 3)),
    )
    return [(i * down, j * right) for i, j in steps]


def multi_scale_crop(height: int, width: int, rng: np.random.Generator, output: int) -> Box:
    """One of `crop_sizes` at one of `crop_places`, all equally likely.

    Args:
      height, width: of the frame, pixels.
      rng: source of the draws.
      output: side of the square that the crop is resized to, pixels.

    Raises:
      ValueError: if the frame is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a frame needs positive sides, got {height} x {width}")
    sizes = crop_sizes(height, width, output)
    rows, columns = sizes[rng.integers(len(sizes))]
    rows, columns = min(rows, height), min(columns, width)  # "near the output" may be larger
    places = crop_places(height, width, rows, columns)
    top, left = places[rng.integers(len(places))]
    return Box(top, left, rows, columns)
