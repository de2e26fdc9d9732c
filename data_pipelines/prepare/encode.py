"""Decoded pictures to an H.264 file that is whole or not there."""

from __future__ import annotations

import dataclasses
import fractions
import os
from typing import Self

import av
import av.filter

from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.geometry import Orientation

# What x264 keeps bit by bit of 8-bit video.
LOSSLESS = {
    "yuv420p": "yuv420p", "yuvj420p": "yuv420p", "yuv422p": "yuv422p", "yuvj422p": "yuv422p",
    "yuv444p": "yuv444p", "yuvj444p": "yuv444p",
}  # fmt: skip
FULL_RANGE = 2  # of FFmpeg's colour ranges


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos are cut and encoded.

    Attributes:
      seconds: length of a chunk.
      short_side: pixels that a larger picture is scaled down to; None: as it is.
      fps: frames per second; None: each video's own mean.
      gop: frames from a key frame to the next: at most so many are decoded for one.
      crf: x264's constant rate factor, lower is better and larger; None: lossless.
    """

    seconds: float = 15.0
    short_side: int | None = 288
    fps: fractions.Fraction | None = None
    gop: int = 12
    crf: int | None = 23

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a picture in a chunk, even numbers."""
        scale = min(1.0, (self.short_side or min(height, width)) / min(height, width))
        return tuple(max(2 * round(side * scale / 2), 2) for side in (height, width))


class ChunkWriter:
    """Encodes pictures; a context manager that makes the file appear whole at its end.

    Until then it is a hidden file beside, which an error removes.
    """

    def __init__(
        self, path: str, rate: fractions.Fraction, settings: Settings, orientation: Orientation
    ):
        """Opens nothing yet.

        Args:
          path: of the MP4 file.
          rate: frames per second.
          settings: how to encode.
          orientation: how the pictures are turned to stand upright; the file is flagged so.
        """
        self._path, self._rate, self._settings = path, rate, settings
        self._orientation = orientation
        folder, name = os.path.split(path)
        self._temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
        self._graphs: dict[tuple, av.filter.Graph | None] = {}
        self._stream, self._frames = None, 0

    def __enter__(self) -> Self:
        self._container = av.open(
            self._temporary, "w", format="mp4",
            options={"fflags": "+bitexact", "movflags": "faststart"},
        )  # fmt: skip
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        finally:
            if os.path.exists(self._temporary):
                os.unlink(self._temporary)

    def write(self, frame: av.VideoFrame) -> None:
        """Adds a picture as the decoder gave it."""
        if self._stream is None:
            self._start(frame)
        key = (frame.format.name, frame.height, frame.width)
        if key not in self._graphs:
            self._graphs[key] = self._graph(frame)
        if self._graphs[key] is not None:
            self._graphs[key].push(frame)
            frame = self._graphs[key].pull()
        frame.pts, frame.time_base = self._frames, 1 / self._rate
        frame.pict_type = av.video.frame.PictureType.NONE  # the encoder's choice, not the source's
        self._container.mux(self._stream.encode(frame))
        self._frames += 1

    def _start(self, frame: av.VideoFrame) -> None:
        settings = self._settings
        given = (frame.height, frame.width)
        self._size = settings.size(*given)
        name, self._pixels = frame.format.name, "yuv420p"
        quality = {"crf": str(settings.crf)}
        if settings.crf is None:
            odd = settings.short_side is None and self._size != given
            if name not in LOSSLESS or odd:
                kind = f"{name} pixels, {given[1]}x{given[0]}"
                raise VideoError(
                    self._path, f"{kind}: only 8-bit YUV of even sides is kept without loss"
                )
            self._pixels, quality = LOSSLESS[name], {"qp": "0"}
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = self._size
        stream.pix_fmt = self._pixels
        transpose, rows, columns = self._orientation
        stream.set_display_rotation(90 if transpose else 0, hflip=columns, vflip=rows != transpose)
        context = stream.codec_context
        context.thread_count = 1  # parallelism is over videos
        context.time_base = 1 / self._rate
        context.color_range, context.colorspace = frame.color_range, frame.colorspace
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        stream.options = quality | {
            "preset": "medium", "tune": "fastdecode", "g": str(settings.gop),
            "keyint_min": str(settings.gop), "sc_threshold": "0",
        }  # fmt: skip
        self._stream = stream

    def _graph(self, frame: av.VideoFrame) -> av.filter.Graph | None:
        """What makes the file's picture of one of this kind; None where nothing has to be done."""
        height, width = self._size
        same = LOSSLESS.get(frame.format.name) == self._pixels
        if (frame.height, frame.width) == (height, width) and same:
            return None
        graph = av.filter.Graph()
        graph.threads = 1
        color = "pc" if int(frame.color_range) == FULL_RANGE else "tv"
        nodes = [
            graph.add(
                "buffer", video_size=f"{frame.width}x{frame.height}", pix_fmt=frame.format.name,
                time_base="1/1", pixel_aspect="1/1", colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            ),
            graph.add(
                "scale", f"{width}:{height}:flags=bicubic+accurate_rnd:in_range={color}:"
                f"out_range={color}"
            ),
            graph.add("format", self._pixels),
            graph.add("buffersink"),
        ]  # fmt: skip
        graph.link_nodes(*nodes).configure()
        return graph
