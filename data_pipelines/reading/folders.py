"""Folders that are videos: images of its frames, or chunks of it named by their start second.

Nothing here opens a file: catalogs name such folders where PyAV is not installed.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

from data_pipelines.reading.errors import VideoError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts"})


@dataclasses.dataclass(frozen=True)
class FrameFolder:
    """A folder of frame images, as TSN, TSM, mmaction2 and FFN train on.

    Attributes:
      path: of the folder.
      template: name of frame number n, such as `img_{:05d}.jpg`. None: the images there are, in
        natural order (`2.jpg` before `10.jpg`); they must be of one name pattern.
      fps: frames per second. Images do not tell: without it, `fps`, `times`, `duration` and spans
        in seconds are errors.
      num_frames: how many; with a template, the folder is then not listed. None: with a template
        up to the largest number, else all.
    """

    path: str | os.PathLike
    template: str | None = None
    fps: float | None = None
    num_frames: int | None = None

    def __post_init__(self):
        if self.template is not None and _named(self.template, 1) == _named(self.template, 2):
            raise ValueError(f"template {self.template!r} holds no number, such as {{:05d}}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps={self.fps} must be positive")
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames} must be positive")

    def images(self) -> list[str]:
        """Names of the frames' images in order, at least one. Those of gaps are named, too.

        Raises:
          VideoError: there is none, or not one order.
        """
        if self.template is None:
            names = _natural_order(self.path, _images_in(self.path))
            if self.num_frames is not None and self.num_frames > len(names):
                reason = f"holds {len(names)} images, fewer than num_frames={self.num_frames}"
                raise VideoError(os.fspath(self.path), reason)
            return names[: self.num_frames]
        first, last = self._numbers()
        return [_named(self.template, number) for number in range(first, last + 1)]

    def _numbers(self) -> tuple[int, int]:
        """Numbers of the first and the last frame."""
        if self.num_frames is not None:
            for first in (0, 1):  # both are common
                if os.path.exists(os.path.join(self.path, _named(self.template, first))):
                    return first, first + self.num_frames - 1
        digits = (int(run) for name in _images_in(self.path) for run in re.findall(r"\d+", name))
        names = set(os.listdir(self.path))
        numbers = {number for number in digits if _named(self.template, number) in names}
        if not numbers:
            reason = f"no image is called {self.template}, with any number"
            raise VideoError(os.fspath(self.path), reason)
        first = min(numbers)
        return first, max(numbers) if self.num_frames is None else first + self.num_frames - 1


@dataclasses.dataclass(frozen=True)
class ChunkFolder:
    """A folder of consecutive video files named by their start second, as AVION's Ego4D.

    Attributes:
      path: of the folder, which holds `0.mp4`, `15.mp4`, `30.mp4`, ..
      fps: frames per second; None: those of the first chunk.
    """

    path: str | os.PathLike
    fps: float | None = None

    def __post_init__(self):
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps={self.fps} must be positive")

    def chunks(self) -> list[tuple[float, str]]:
        """(start second, file name) in order, at least one.

        Raises:
          VideoError: there is none, or two begin at once.
        """
        found = sorted(
            (float(stem), stem + kind)
            for stem, kind in map(os.path.splitext, _list(self.path))
            if kind.lower() in VIDEOS and re.fullmatch(r"\d+(\.\d+)?", stem)
        )
        if not found:
            raise VideoError(os.fspath(self.path), "no file is named by its start second")
        for (start, name), (after, other) in zip(found, found[1:], strict=False):
            if start == after:
                raise VideoError(os.fspath(self.path), f"{name} and {other} begin at once")
        return found


def folder_source(path: str | os.PathLike) -> FrameFolder | ChunkFolder:
    """What kind of video a folder is.

    Raises:
      VideoError: none.
    """
    if _images_in(path):
        return FrameFolder(path)
    folder = ChunkFolder(path)
    try:
        folder.chunks()
    except VideoError as error:
        reason = f"is a directory, but no frame images in it, and {error.reason}"
        raise VideoError(os.fspath(path), reason) from error
    return folder


def _named(template: str, number: int) -> str:
    try:
        return template.format(number)
    except (ValueError, LookupError) as error:
        raise ValueError(f"template {template!r}: {error}; such as img_{{:05d}}.jpg") from None


def _list(path: str | os.PathLike) -> list[str]:
    """Names in a folder, hidden ones (`._0001.jpg` of macOS) left out."""
    try:
        return [name for name in os.listdir(path) if not name.startswith(".")]
    except OSError as error:
        raise VideoError(os.fspath(path), (error.strerror or str(error)).lower()) from error


def _images_in(path: str | os.PathLike) -> list[str]:
    return [name for name in _list(path) if pathlib.PurePath(name).suffix.lower() in IMAGES]


def _natural_order(path: str | os.PathLike, names: Sequence[str]) -> list[str]:
    """Images by the last number of their names."""
    if not names:
        raise VideoError(os.fspath(path), "no frame images in it")
    patterns: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        before, number, after = re.fullmatch(r"(.*?)(\d*)(\D*)", name, re.DOTALL).groups()
        patterns.setdefault((before, after.lower()), {})[int(number or 0)] = name
    if len(patterns) > 1:  # images and optical flow, two cameras, ..
        some = sorted("*".join(pattern) for pattern in patterns)[:3]
        reason = f"images of several name patterns ({', '.join(some)}): give a template"
        raise VideoError(os.fspath(path), reason)
    (numbered,) = patterns.values()
    if len(numbered) < len(names):
        raise VideoError(os.fspath(path), "two images have one number: give a template")
    return [numbered[number] for number in sorted(numbered)]
