"""A video that is a folder of frame images: only the wanted ones are opened."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image, ImageOps

from data_pipelines.reading.base import CodedVideo, unknown_rate
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.geometry import Box, Geometry
from data_pipelines.reading.pictures import Converter
from data_pipelines.reading.time_limit import Deadline

# What Pillow raises on a bad image; UnidentifiedImageError and truncation are OSError.
PILLOW_ERRORS = (
    OSError, EOFError, ValueError, LookupError, TypeError, SyntaxError, MemoryError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip


class FrameImages(CodedVideo):
    """An open folder of frame images; `video.Video` says what the attributes are.

    Height and width are those of the first image. Others are scaled to it, as frames of a stream
    that changes size are. Crops and scales are a file's (`pictures.Converter`).
    """

    gop, pixel_format = 1, "rgb24"

    def __init__(self, folder: FrameFolder, name: str, max_pixels: int, deadline: Deadline):
        """Lists the images and looks at the first.

        Raises:
          VideoError: there is none, or the first is missing, broken or too large.
        """
        self.name, self._max_pixels, self._deadline = name, max_pixels, deadline
        self._folder = os.fspath(folder.path)
        self._fps = folder.fps
        try:
            self._images = folder.images()
        except VideoError as error:
            raise VideoError(name, error.reason) from error
        self.num_frames = len(self._images)
        self.height, self.width = self._pixels(0).shape[:2]
        self.geometry = Geometry((self.height, self.width))
        self.codec = os.path.splitext(self._images[0])[1][1:].lower()

    @property
    def fps(self) -> float:
        """Frames per second; `VideoError` if nobody has said how many."""
        if self._fps is None:
            raise unknown_rate(self.name)
        return self._fps

    @property
    def times(self) -> np.ndarray:
        """Seconds, float64 `[num_frames]`, the first 0; needs `fps`."""
        return np.arange(self.num_frames) / self.fps

    @property
    def duration(self) -> float:
        """Seconds until the end of the last frame; needs `fps`."""
        return self.num_frames / self.fps

    def scan(self) -> None:
        """Opens every image once, converts it as training does, and keeps none.

        Raises:
          VideoError: one is missing or broken.
        """
        for index in range(self.num_frames):
            self.read(np.array([index]))

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Frames by index, as `video.Video.read`; uint8 [T, h, w, 3].

        Raises:
          VideoError: an image is missing or broken; the reason names it.
        """
        indices = self.check_request(indices, box, size)
        converter = Converter(self.geometry, box, size, flip)
        out = np.empty((len(indices), *converter.size, 3), np.uint8)
        for index, picture in self.pictures(np.unique(indices)):
            out[indices == index] = converter(picture)
        return out

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, image) of some frames, as `CodedVideo.pictures`.

        Raises:
          VideoError: an image is missing or broken; the reason names it.
        """
        for index in wanted.tolist():
            yield index, av.VideoFrame.from_ndarray(self._pixels(index), format=self.pixel_format)

    def _pixels(self, index: int) -> np.ndarray:
        """Image `index`, upright, uint8 [H, W, 3]."""
        self._deadline.check()
        image_name = self._images[index]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's limit is another one than ours
                return self._open(os.path.join(self._folder, image_name))
        except PILLOW_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoError(self.name, f"frame image {image_name}: {reason.lower()}") from error

    def _open(self, path: str) -> np.ndarray:
        if not os.path.isfile(path) and os.path.exists(path):
            raise OSError("not a regular file")  # a pipe would block for ever
        with Image.open(path) as image:
            width, height = image.size
            if width * height > self._max_pixels:
                raise ValueError(f"{width}x{height} is more than max_pixels = {self._max_pixels}")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"pixels of mode {image.mode}: 8 bits a colour are required")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
