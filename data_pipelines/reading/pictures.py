"""From a decoded frame to an upright RGB array: crop, scale and colours in one FFmpeg graph."""

import math
from typing import NamedTuple

import av
import av.filter
import numpy as np


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
    def of(cls, frame: av.VideoFrame) -> "Orientation":
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


class Converter:
    """Frames -> uint8 `[height, width, 3]` RGB of one box at one size.

    Crop, then scale, then RGB, all in one FFmpeg filter graph: only the box's pixels are scaled.
    Scaling is swscale's bilinear, whose triangle filter widens when it shrinks a picture: it
    antialiases (like `antialias=True` of torchvision and jax.image, unlike cv2.INTER_LINEAR).
    The box keeps its size, but its origin in the coded picture is moved up and left to even
    numbers: chroma has half the resolution, and an odd origin would shift it by half a pixel.
    Untagged colours are read as BT.601, limited range, as FFmpeg does. Bit-exact and accurately
    rounding variants of swscale are used, so that every machine gives the same pixels.
    """

    FLAGS = "bilinear+accurate_rnd+bitexact"

    def __init__(
        self,
        coded_size: tuple[int, int],
        orientation: Orientation,
        box: Box | None,
        size: tuple[int, int] | None,
        flip: bool,
    ):
        upright_size = orientation.size(*coded_size)
        box = box or Box(0, 0, *upright_size)
        self.size = (box.height, box.width) if size is None else (int(size[0]), int(size[1]))
        self._coded_size, self._orientation, self._flip = coded_size, orientation, flip
        top, left, height, width = orientation.coded(box, *upright_size)
        self._crop = Box(top - top % 2, left - left % 2, height, width)
        self._graphs: dict[tuple, av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 `[height, width, 3]`, upright, flipped where asked."""
        key = (frame.format.name, frame.height, frame.width, frame.colorspace, frame.color_range)
        if key not in self._graphs:
            self._graphs[key] = self._graph(frame)
        graph = self._graphs[key]
        graph.push(frame)
        pixels = self._orientation.upright(graph.pull().to_ndarray())
        return pixels[:, ::-1] if self._flip else pixels

    def _graph(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "buffer",
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base="1/1",  # unused, but the source insists on one
                pixel_aspect="1/1",
                colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            )
        ]
        height, width = self._coded_size
        if (frame.height, frame.width) != (height, width):
            # The stream changes size on the way: boxes are in pixels of its first frame.
            nodes.append(graph.add("scale", f"{width}:{height}:flags={self.FLAGS}"))
        top, left, crop_height, crop_width = self._crop
        if self._crop != (0, 0, height, width):
            crop = f"{crop_width}:{crop_height}:{left}:{top}:exact=1"
            nodes.append(graph.add("crop", crop))
        out_height, out_width = self._orientation.size(*self.size)
        nodes.append(graph.add("scale", f"{out_width}:{out_height}:flags={self.FLAGS}"))
        nodes.append(graph.add("format", "rgb24"))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph
