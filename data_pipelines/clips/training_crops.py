"""The crops that training draws by name: `config.data.crop`."""

import functools
from collections.abc import Callable

import numpy as np

from data_pipelines.clips.crops import check_frame, random_resized_crop
from data_pipelines.reading.geometry import Box

# (height, width, resolution, rng) -> box in source pixels, resized to resolution x resolution
Crop = Callable[[int, int, int, np.random.Generator], Box]

_SCALES = (
    1.0,
    0.875,
    0.75,
    0.66,
)  # of the short side; TSN's, and so TSM's, FFN's, VideoMAE's and UMT's
# Places of a crop in quarters of what is left over, (right, down): corners, centre, and eight more.
_PLACES = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3),
    (3, 3),
)  # fmt: skip


def training_crop(
    name: str,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Crop:
    """The crop of a config: "random_resized", "multi_scale" or "short_side:LOW:HIGH".

    Args:
      name: of the crop.
      scale, ratio: of random_resized, see `random_resized_crop`.

    Raises:
      ValueError: on another name, or shares that are no ascending numbers above 0 and up to 1.
    """
    if name == "random_resized":
        return lambda height, width, _, rng: random_resized_crop(height, width, rng, scale, ratio)
    if name == "multi_scale":
        return multi_scale_crop
    kind, *texts = name.split(":")
    if kind != "short_side":
        raise ValueError(
            f"unknown crop {name!r}; known: random_resized, multi_scale, short_side:LOW:HIGH"
        )
    try:
        low, high = map(float, texts)
    except ValueError:
        low = high = 0.0
    if not 0.0 < low <= high <= 1.0:
        raise ValueError(f"{name!r} lacks two shares of the short side, e.g. short_side:0.7:0.875")
    return functools.partial(short_side_crop, shares=(low, high))


def multi_scale_crop(height: int, width: int, resolution: int, rng: np.random.Generator) -> Box:
    """TSN's GroupMultiScaleCrop with its 13 fixed places, as FFN's 2D loader uses it.

    Height and width are shares 1, 0.875, 0.75 or 0.66 of the short side, at most one step of these
    apart; a side within two pixels of the resolution is the resolution.

    Raises:
      ValueError: if the frame is empty.
    """
    check_frame(height, width)
    sizes = crop_sizes(height, width, resolution)
    rows, columns = sizes[rng.integers(len(sizes))]
    rows, columns = min(rows, height), min(columns, width)  # near the resolution may be larger
    places = crop_places(height, width, rows, columns)
    return Box(*places[rng.integers(len(places))], rows, columns)


def crop_sizes(height: int, width: int, resolution: int) -> list[tuple[int, int]]:
    """(rows, columns) that `multi_scale_crop` may have: shares of the short side, nearly square."""
    sides = [max(int(min(height, width) * scale), 1) for scale in _SCALES]
    sides = [resolution if abs(side - resolution) < 3 else side for side in sides]
    return [
        (rows, columns)
        for i, rows in enumerate(sides)
        for j, columns in enumerate(sides)
        if abs(i - j) <= 1
    ]


def crop_places(height: int, width: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """The 13 (top, left) of a crop of that size."""
    across, down = (width - columns) // 4, (height - rows) // 4
    return [(y * down, x * across) for x, y in _PLACES]


def short_side_crop(
    height: int,
    width: int,
    resolution: int,
    rng: np.random.Generator,
    *,
    shares: tuple[float, float],
) -> Box:
    """A square anywhere, whose side is a uniform share of the short side.

    PySlowFast scales the short side to S pixels, 1 / S uniform between two bounds, and cuts
    `resolution` of them: 224 of 256 to 320 are the shares 0.7 to 0.875.

    Raises:
      ValueError: if the frame is empty.
    """
    check_frame(height, width)
    short = min(height, width)
    side = min(max(round(short * rng.uniform(*shares)), 1), short)
    top, left = rng.integers((height - side, width - side), endpoint=True)
    return Box(int(top), int(left), side, side)
