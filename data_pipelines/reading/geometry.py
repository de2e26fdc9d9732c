"""Where pictures lie: boxes, turned and mirrored pictures, pixels that are not square."""

from __future__ import annotations

import fractions
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import av  # which lists of paths and videos in memory do without


class Box(NamedTuple):
    """Rectangle in pixels of the upright (rotated) picture."""

    top: int
    left: int
    height: int
    width: int


class Orientation(NamedTuple):
    """How the coded picture is turned to stand upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_rows: bool = False  # upside down
    mirror_columns: bool = False  # left to right

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """Orientation in the frame's display matrix (the rotation flag of MP4 and others).

        Raises:
          ValueError: the matrix turns by something that is no multiple of 90 degrees.
        """
        a, b, c, d = _display_matrix(frame)
        if max(abs(b), abs(c)) <= 0.02 * max(
            abs(a), abs(d)
        ):  # within a degree, as FFmpeg's autorotate
            return cls(False, d < 0, a < 0)
        if max(abs(a), abs(d)) <= 0.02 * max(abs(b), abs(c)):
            return cls(True, b < 0, c < 0)
        raise ValueError(
            f"turned by {math.degrees(math.atan2(c, a)):.0f} degrees;"
            " only multiples of 90 are supported"
        )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) on the other side of the turn."""
        return (width, height) if self.transpose else (height, width)

    def coded(self, box: Box, height: int, width: int) -> Box:
        """The box of the upright picture of that height and width, in the coded picture."""
        top, left, h, w = box
        top = height - top - h if self.mirror_rows else top
        left = width - left - w if self.mirror_columns else left
        return Box(left, top, w, h) if self.transpose else Box(top, left, h, w)

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """View of coded pixels `[h, w, 3]` as they are to be seen."""
        pixels = pixels.transpose(1, 0, 2) if self.transpose else pixels
        rows = slice(None, None, -1 if self.mirror_rows else 1)
        columns = slice(None, None, -1 if self.mirror_columns else 1)
        return pixels[rows, columns]


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of x' = a x + c y, y' = b x + d y, y pointing down; the identity without one."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except KeyError:
        data = None
    except ValueError:
        # PyAV refuses frames with a kind of side data it has no name for; the angle is still told.
        turn = round(frame.rotation / 90) % 4  # counterclockwise
        return [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)][turn]
    if data is None:
        return 1, 0, 0, 1
    matrix = np.frombuffer(bytes(data), np.int32)
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    return (a, b, c, d) if any((a, b, c, d)) else (1, 0, 0, 1)


class Geometry:
    """From boxes of the upright picture to those of the coded one.

    Attributes:
      coded_size: (height, width) in which the stream stores its pictures.
      orientation: how they are turned.
      pixel_aspect: width / height of a coded pixel, to be made square; None: left alone.
      size: (height, width) of the upright picture; boxes are in its pixels.
    """

    def __init__(
        self,
        coded_size: tuple[int, int],
        orientation: Orientation | None = None,
        pixel_aspect: fractions.Fraction | None = None,
    ):
        height, width = self.coded_size = coded_size
        self.orientation = orientation or Orientation()
        self.pixel_aspect = pixel_aspect
        self._square_size = (height, max(round(width * (pixel_aspect or 1)), 1))
        self.size = self.orientation.size(*self._square_size)

    def coded(self, box: Box | None) -> Box:
        """The box, the whole picture if None, in pixels of the coded picture."""
        box = self.orientation.coded(box or Box(0, 0, *self.size), *self.size)
        width, square_width = self.coded_size[1], self._square_size[1]
        if width == square_width:
            return box
        left = min(round(box.left * width / square_width), width - 1)
        right = max(round((box.left + box.width) * width / square_width), left + 1)
        return box._replace(left=left, width=right - left)
