"""From a decoded frame to an upright RGB array: crop, scale and colours in one FFmpeg graph."""

import av
import av.filter
import numpy as np

from data_pipelines.reading.geometry import Box, Geometry


def picture_kind(frame: av.VideoFrame) -> tuple:
    """What conversion depends on: pictures of one kind are converted alike."""
    return frame.format.name, frame.height, frame.width, frame.colorspace, frame.color_range


_UNKNOWN = 2  # in ITU-T H.273
# Matrices of H.273 that swscale has; for BT.2020 with constant luminance it uses the plain one.
_MATRICES = {code: code for code in (1, 4, 5, 6, 7, 9)} | {10: 9}


def _matrix(frame: av.VideoFrame) -> int:
    """The frame's colour matrix as H.273 counts them, "unknown" where swscale has none like it."""
    known = {0: 0} if frame.format.is_rgb else _MATRICES
    return known.get(int(frame.colorspace), _UNKNOWN)


class Converter:
    """Frames -> uint8 `[height, width, 3]` RGB of one box at one size.

    Crop, then scale, then RGB, all in one FFmpeg filter graph: only the box's pixels are scaled.
    Scaling is swscale's bilinear, whose triangle filter widens when it shrinks a picture: it
    antialiases (like `antialias=True` of torchvision and jax.image, unlike cv2.INTER_LINEAR).
    The box keeps its size, but its origin in the coded picture is moved up and left to even
    numbers: chroma has half the resolution, and an odd origin would shift it by half a pixel.
    Of the colour tags only the matrix and the range matter for RGB. Untagged colours are read as
    BT.601, limited range, as FFmpeg does; so are those of a matrix that it cannot convert, as its
    command does. Bit-exact and accurately rounding variants of swscale are used, so that every
    machine gives the same pixels.
    """

    FLAGS = "bilinear+accurate_rnd+bitexact"

    def __init__(
        self,
        geometry: Geometry,
        box: Box | None,
        size: tuple[int, int] | None,
        flip: bool,
        siting: str = "",
    ):
        """`box` and `size` (height, width) are those of the upright picture; see `Video.read`.

        `siting` says where chroma samples lie in pictures that do not, see `kept_frames`.
        """
        if size is None:
            size = geometry.size if box is None else (box.height, box.width)
        self.size = (int(size[0]), int(size[1]))
        self._geometry, self._flip = geometry, flip
        self._siting = f":in_chroma_loc={siting}" if siting else ""
        top, left, height, width = geometry.coded(box)
        self._crop = Box(top - top % 2, left - left % 2, height, width)
        self._graphs: dict[tuple, av.filter.Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 `[height, width, 3]`, upright, flipped where asked; clears tags of the frame."""
        frame.colorspace = _matrix(frame)
        frame.color_primaries = frame.color_trc = _UNKNOWN
        key = picture_kind(frame)
        if key not in self._graphs:
            self._graphs[key] = self._graph(frame)
        graph = self._graphs[key]
        graph.push(frame)
        pixels = self._geometry.orientation.upright(graph.pull().to_ndarray())
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
        height, width = self._geometry.coded_size
        if (frame.height, frame.width) != (height, width):
            # The stream changes size on the way: boxes are in pixels of its first frame.
            nodes.append(graph.add("scale", f"{width}:{height}:flags={self.FLAGS}"))
        top, left, crop_height, crop_width = self._crop
        if self._crop != (0, 0, height, width):
            crop = f"{crop_width}:{crop_height}:{left}:{top}:exact=1"
            nodes.append(graph.add("crop", crop))
        out_height, out_width = self._geometry.orientation.size(*self.size)
        scale = f"{out_width}:{out_height}:flags={self.FLAGS}{self._siting}"
        nodes.append(graph.add("scale", scale))
        nodes.append(graph.add("format", "rgb24"))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph
