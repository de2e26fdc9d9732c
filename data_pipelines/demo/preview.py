"""A contact sheet of the demo corpus: one clip a row, time from left to right."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

_GAP = 4  # pixels between pictures
_CAPTION = 150  # pixels for the name of the motion


def contact_sheet(
    examples: Sequence[dict[str, Any]], names: Sequence[str], *, columns: int = 6
) -> Image.Image:
    """Decodes examples of the corpus and lays their frames out in rows.

    Args:
      examples: as read from the data source: `video` (bytes) and `label`.
      names: of the motions, by label.
      columns: frames a clip, evenly spaced from the first to the last.
    """
    rows = []
    for example in examples:
        frames = decode_all(example["video"])
        rows.append(frames[np.linspace(0, len(frames) - 1, columns).round().astype(int)])
    height, width = rows[0].shape[1:3]
    size = (_CAPTION + columns * (width + _GAP), len(rows) * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        top = _GAP + i * (height + _GAP)
        name = names[example["label"]].replace("_", " ")
        draw.text((2 * _GAP, top + height // 2), name, fill="black", anchor="lm")
        for j, frame in enumerate(row):
            sheet.paste(Image.fromarray(frame), (_CAPTION + j * (width + _GAP), top))
    return sheet


def decode_all(video: bytes) -> np.ndarray:
    """All frames of an encoded clip, uint8 ``[T, H, W, 3]`` RGB."""
    import av

    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)
