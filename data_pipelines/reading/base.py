"""What all kinds of video share: spans of seconds, the check of a request, the context manager."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.geometry import Box, Geometry

if TYPE_CHECKING:
    import av  # which lists of paths and videos in memory do without


class BaseVideo:
    """Frames by display index; see `video.Video` for what each attribute means."""

    name: str
    num_frames: int
    fps: float
    height: int
    width: int
    times: np.ndarray
    duration: float
    codec: str
    gop: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Free what the video holds."""

    def scan(self) -> None:
        """Decode every frame once, as `read` would, and keep none.

        Raises:
          VideoError: a frame cannot be read.
        """

    def defects(self) -> str | None:
        """What is missing or damaged, and was replaced, as far as frames were decoded so far."""
        return None

    def damage(self) -> dict[str, str]:
        """The same by file: path -> what was replaced, {} if nothing was."""
        defects = self.defects()
        return {self.name: defects} if defects else {}

    def span(
        self, start_seconds: float, end_seconds: float, *, nearest: bool = False
    ) -> tuple[int, int]:
        """(first, last_exclusive) indices of the frames on display in [start, end), at least one.

        With `nearest`, of those only that are on display there for half of their time: the bounds
        are rounded to whole frames.

        Seconds are those of a player's clock, as `times`: before a picture that starts late, its
        first frame stands. The end may lie after the video's (annotations often do); the start may
        not.

        Raises:
          ValueError: not 0 <= start < end.
          VideoError: the span starts after the video ends.
        """
        self.check_span(start_seconds, end_seconds)
        if nearest:
            middles = self.times + 0.5 / self.fps
            first, last = np.searchsorted(middles, (start_seconds, end_seconds)).tolist()
            first = min(first, self.num_frames - 1)
            return first, max(last, first + 1)
        # A microsecond of slack: times such as 1/3 s are not exact in binary.
        first = int(np.searchsorted(self.times, start_seconds + 1e-6, side="right")) - 1
        last = int(np.searchsorted(self.times, end_seconds - 1e-6, side="left"))
        return max(first, 0), max(last, first + 1, 1)

    def check_span(self, start_seconds: float, end_seconds: float) -> None:
        """Raises what `span` does."""
        if not 0 <= start_seconds < end_seconds:
            raise ValueError(f"span {start_seconds}..{end_seconds} s: 0 <= start < end is required")
        if start_seconds >= max(self.duration, 1e-6):
            raise VideoError(
                self.name,
                f"span starts at {start_seconds} s, the video ends at {self.duration:.3f} s",
            )

    def check_request(
        self, indices: np.ndarray, box: Box | None, size: tuple[int, int] | None
    ) -> np.ndarray:
        """The indices as int64 `[T]`, if they, the box and the size can be served.

        Raises:
          IndexError: an index outside the video.
          ValueError: indices that are no list of integers, a box outside the picture, an empty
            size.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ValueError(
                f"indices must be integers [T], not {indices.dtype} {list(indices.shape)}"
            )
        outside = indices[(indices < 0) | (indices >= self.num_frames)]
        if outside.size:
            raise IndexError(
                f"frame {outside[0]} of {self.name}: it has frames 0..{self.num_frames - 1}"
            )
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size {size}: (height, width) of at least one pixel are required")
        if box is not None:
            top, left, height, width = box
            inside = top + height <= self.height and left + width <= self.width
            if min(top, left) < 0 or min(height, width) < 1 or not inside:
                raise ValueError(f"{box} is not inside the {self.width}x{self.height} picture")
        return indices.astype(np.int64)


class CodedVideo(BaseVideo):
    """A video that gives its pictures as they are coded, too: of a file, or of a folder of images.

    Attributes:
      geometry: of the coded pictures, and how they are turned to stand upright.
      pixel_format: FFmpeg's name of the first one's.
    """

    geometry: Geometry
    pixel_format: str

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, picture as it is coded) of some frames, one after the other.

        Args:
          wanted: int64 `[n]`, ascending display indices without repeats.

        Raises:
          VideoError: see `video.Video.read`.
        """
        raise NotImplementedError


def unknown_rate(name: str) -> VideoError:
    """The error of asking a folder of images for its frame rate."""
    return VideoError(name, "images do not tell their frame rate: give FrameFolder(fps=..)")
