"""A contact sheet: a row of frames for each video, with a line of text above it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP, _LINE = 4, 18  # pixels between pictures, and of a line of text


class Row(NamedTuple):
    """A line of text, and the frames below it, uint8 [T, S, S, 3]; None for a line alone."""

    text: str
    frames: np.ndarray | None = None


def contact_sheet(rows: Sequence[Row], columns: int, side: int) -> Image.Image:
    """Draws the rows one below the other, time from left to right, as wide as the widest.

    Args:
      rows: with frames of side x side pixels.
      columns: frames of a row at most; of more the evenly spaced ones, the first and last included.
      side: of a frame, in pixels.
    """
    heights = [_LINE + (0 if row.frames is None else side + _GAP) for row in rows]
    font = ImageFont.load_default(size=13)
    widths = [font.getlength(row.text) for row in rows]
    widths += [len(_spread(row.frames, columns)) * (side + _GAP) for row in rows]
    size = (2 * _GAP + math.ceil(max(widths, default=0)), _GAP + sum(heights))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        draw.text((_GAP, top + _LINE // 2), row.text, fill="black", anchor="lm", font=font)
        for column, frame in enumerate(_spread(row.frames, columns)):
            place = (_GAP + column * (side + _GAP), top + _LINE)
            sheet.paste(Image.fromarray(frame), place)
        top += height
    return sheet


def _spread(frames: np.ndarray | None, count: int) -> Sequence[np.ndarray]:
    if frames is None or len(frames) <= count:
        return () if frames is None else frames
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
