"""What a video is, and `open_video`, which opens all kinds of them."""

import functools
import os
from typing import Protocol, Self

import numpy as np

from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.chunks import ChunkedVideo
from data_pipelines.reading.decode import VideoFile
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import ChunkFolder, FrameFolder, folder_source
from data_pipelines.reading.frame_cache import FrameCache
from data_pipelines.reading.frame_images import FrameImages
from data_pipelines.reading.geometry import Box
from data_pipelines.reading.time_limit import Deadline

__all__ = ["Box", "Source", "Video", "VideoError", "open_video"]

Source = str | os.PathLike | bytes | ArrayVideo | FrameFolder | ChunkFolder


class Video(Protocol):
    """Frames by display index: of a file, bytes, an array, a folder of images or of chunks.

    Attributes:
      name: what errors call it.
      num_frames: frames in display order. Of a damaged file: those it has packets for.
      height, width: of the upright picture, in pixels.
      times: float64 `[num_frames]`, seconds on a player's clock, ascending. It begins with the
        earliest sound or picture, so the first is 0 but where sound comes before the picture or a
        folder's chunks begin later.
      duration: seconds on that clock until the end of the last frame.
      fps: mean frames per second (0 for a still of unknown duration).
      codec: FFmpeg's name of the codec, such as `h264`.
      gop: most packets from one place where decoding may start to the next; all of them where the
        frames are not planned.
    """

    name: str
    num_frames: int
    height: int
    width: int
    codec: str
    gop: int

    @property
    def times(self) -> np.ndarray:
        """Seconds, float64 `[num_frames]`; `VideoError` where the frame rate is not known."""

    @property
    def duration(self) -> float:
        """Seconds; `VideoError` where the frame rate is not known."""

    @property
    def fps(self) -> float:
        """Frames per second; `VideoError` where the frame rate is not known."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_) -> None: ...

    def close(self) -> None:
        """Free what it holds."""

    def span(
        self, start_seconds: float, end_seconds: float, *, nearest: bool = False
    ) -> tuple[int, int]:
        """(first, last_exclusive) indices of the frames on display in [start, end), at least one.

        With `nearest`, of those only that are on display there for half of their time: the bounds
        are rounded to whole frames.

        Raises:
          ValueError: not 0 <= start < end.
          VideoError: the span starts after the video ends.
        """

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Frames by display index.

        Args:
          indices: ints `[T]` in 0..num_frames-1, in any order, repeats allowed.
          box: what to cut out of the upright picture, all of it if None. Of what is decoded its
            origin is moved up and left to even numbers.
          size: (height, width) to scale the box to; the box's own if None.
          flip: mirror left to right.

        Returns:
          uint8 `[T, height, width, 3]`, RGB.

        Raises:
          IndexError: an index outside the video.
          ValueError: a box outside the picture, an empty size, or a closed video.
          VideoError: nothing can be decoded; in strict mode also if frames are missing or damaged.
        """

    def scan(self) -> None:
        """Decode every frame once, as `read` does, and keep none.

        Raises:
          VideoError: a frame cannot be read.
        """

    def defects(self) -> str | None:
        """What is missing or damaged, and was replaced, as far as frames were decoded so far."""

    def damage(self) -> dict[str, str]:
        """The same by file: path -> what was replaced, {} if nothing was."""


def open_video(
    source: Source,
    *,
    name: str | None = None,
    max_pixels: int = 64 << 20,
    strict: bool = False,
    square_pixels: bool = False,
    seconds: float | None = None,
    cache: FrameCache | None = None,
) -> Video:
    """Open a video of any kind for reading frames by display index.

    Args:
      source: path of a file, or its content; path of a folder of frame images, or of chunks named
        by their start second (`FrameFolder` and `ChunkFolder` say more of them than a path); a
        video in memory is returned as it is.
      name: how errors call it; the path, or `<bytes>`, if not given.
      max_pixels: largest width x height that will be decoded.
      strict: refuse truncated files and damaged or missing frames instead of filling in. Frame
        images are never filled in.
      square_pixels: of files whose pixels are not square (DV, DVD, anamorphic recordings), widen or
        narrow the picture to the shape in which players show it. If not set, a coded pixel is a
        pixel, as most readers of data sets have it.
      seconds: from now until the last frame is read; longer is an error. None: no limit.
      cache: where files, chunks and folders of images are looked up before anything is decoded.

    Returns:
      A context manager that holds files open until it is closed.

    Raises:
      VideoError: it is missing, unreadable, encrypted, too large, or has no decodable video frame;
        in strict mode also if it is truncated. `VideoTimeoutError`, also while reading, when
        `seconds` have passed; a decoder looks at the time before every packet.
    """
    if isinstance(source, ArrayVideo):
        return source
    is_path = isinstance(source, str | os.PathLike)
    if name is None:
        named = source if is_path or isinstance(source, bytes) else source.path
        name = "<bytes>" if isinstance(named, bytes) else os.fspath(named)
    if is_path and os.path.isdir(source):
        try:
            source = folder_source(source)
        except VideoError as error:
            raise VideoError(name, error.reason) from error
    deadline = Deadline(name, seconds)
    if isinstance(source, FrameFolder):
        open_one = functools.partial(FrameImages, max_pixels=max_pixels, deadline=deadline)
    else:
        open_one = functools.partial(
            VideoFile, max_pixels=max_pixels, strict=strict, square_pixels=square_pixels,
            deadline=deadline,
        )  # fmt: skip
    if cache is not None:
        open_one = cache.opener(open_one, f"{max_pixels} {strict} {square_pixels}", deadline)
    if isinstance(source, ChunkFolder):
        return ChunkedVideo(source, name, open_one, strict)
    return open_one(source, name)
