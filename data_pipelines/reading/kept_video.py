"""A video whose frames are all decoded and kept, and how they come to be."""

import fractions
import time

import numpy as np

from data_pipelines.reading.base import BaseVideo, CodedVideo, unknown_rate
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.geometry import Box, Geometry, Orientation
from data_pipelines.reading.kept_frames import (
    KeptFrames,
    Layout,
    PictureKind,
    chroma_siting,
    tagged,
)
from data_pipelines.reading.pictures import Converter


def decode_all(video: CodedVideo, layout: Layout, seconds: float) -> KeptFrames | None:
    """All frames of a video; None where they cannot be kept so that reading them is the same.

    That is where frames are missing or damaged, change their size or format, lie upside down in
    memory, or take more than so many seconds.

    Args:
      video: of a `keepable` format.
      layout: of its pictures.
      seconds: that it may take.

    Raises:
      VideoError: one cannot be decoded.
    """
    end = time.monotonic() + seconds
    pixels = np.empty((video.num_frames, layout.size), np.uint8)
    kind, picture, count = None, None, 0
    for index, picture in video.pictures(np.arange(video.num_frames)):
        if kind is None:
            kind = PictureKind.of(picture)
            if kind[:3] != (video.pixel_format, *video.geometry.coded_size):
                return None
        downwards = all(plane.line_size > 0 for plane in picture.planes)
        if PictureKind.of(picture) != kind or not downwards or time.monotonic() > end:
            return None
        layout.write(picture, pixels[index])
        count += 1
    if count < video.num_frames or video.damage():
        return None
    siting = chroma_siting(picture)
    return None if siting is None else KeptFrames(pixels, kind, siting, _about(video))


def _about(video: CodedVideo) -> dict:
    geometry = video.geometry
    aspect = geometry.pixel_aspect
    about = {
        "coded_size": list(geometry.coded_size),
        "orientation": list(geometry.orientation),
        "pixel_aspect": None if aspect is None else [aspect.numerator, aspect.denominator],
        "codec": video.codec,
        "gop": video.gop,
    }
    try:
        clock = {"fps": video.fps, "duration": video.duration, "times": video.times.tolist()}
    except VideoError:  # images do not tell
        clock = {"fps": None, "duration": None, "times": None}
    return about | clock


class KeptVideo(BaseVideo):
    """A video of kept frames; `video.Video` says what the attributes are.

    Frames are those of the file they were decoded from, bit by bit: they go through the same
    conversion as a decoder's.
    """

    def __init__(self, kept: KeptFrames, name: str):
        about = kept.about
        self.name, self._kept = name, kept
        self.num_frames = len(kept.pixels)
        self.codec, self.gop = about["codec"], about["gop"]
        aspect = about["pixel_aspect"]
        self._geometry = Geometry(
            tuple(about["coded_size"]),
            Orientation(*about["orientation"]),
            None if aspect is None else fractions.Fraction(*aspect),
        )
        self.height, self.width = self._geometry.size

    @property
    def fps(self) -> float:
        """Frames per second; `VideoError` if nobody has said how many."""
        return self._told("fps")

    @property
    def times(self) -> np.ndarray:
        """Seconds, float64 `[num_frames]`."""
        return np.asarray(self._told("times"), np.float64)

    @property
    def duration(self) -> float:
        """Seconds until the end of the last frame."""
        return self._told("duration")

    def _told(self, what: str):
        if self._open().about[what] is None:
            raise unknown_rate(self.name)
        return self._kept.about[what]

    def close(self) -> None:
        """Let go of the frames; reading afterwards raises ValueError."""
        self._kept = None

    def _open(self) -> KeptFrames:
        if self._kept is None:
            raise ValueError(f"{self.name} is closed")
        return self._kept

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Frames by display index, as `video.Video.read`; uint8 `[T, h, w, 3]`."""
        kept = self._open()
        indices = self.check_request(indices, box, size)
        layout = Layout(*kept.kind[:3])
        converter = Converter(self._geometry, box, size, flip, kept.siting)
        out = np.empty((len(indices), *converter.size, 3), np.uint8)
        for index in np.unique(indices).tolist():
            picture = tagged(layout.picture(kept.pixels[index]), kept.kind)
            out[indices == index] = converter(picture)
        return out
