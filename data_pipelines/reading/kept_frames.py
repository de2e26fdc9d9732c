"""All frames of a video as they were decoded, in plain bytes, and pictures made of them again."""

import dataclasses
from typing import Any, NamedTuple

import av
import numpy as np

from data_pipelines.reading.geometry import Box, Geometry
from data_pipelines.reading.pictures import Converter

_SITINGS = ("", "left", "center", "topleft", "top", "bottomleft", "bottom")


class PictureKind(NamedTuple):
    """What conversion to RGB depends on, beside the samples.

    Attributes:
      format: FFmpeg's name of the pixel format.
      height, width: in pixels.
      colorspace, color_range: as FFmpeg counts them.
    """

    format: str
    height: int
    width: int
    colorspace: int
    color_range: int

    @classmethod
    def of(cls, picture: av.VideoFrame) -> "PictureKind":
        """The kind of a picture that no `Converter` has seen: it clears tags."""
        colours = int(picture.colorspace), int(picture.color_range)
        return cls(picture.format.name, picture.height, picture.width, *colours)


class Layout:
    """Pictures of one size and format as rows of bytes: plane after plane, line after line.

    Attributes:
      size: bytes of a picture: 1.5 a pixel for 4:2:0, 3 for RGB.
    """

    def __init__(self, pixel_format: str, height: int, width: int):
        self._new = lambda: av.VideoFrame(width, height, pixel_format)
        self._lines = [(plane.height, plane.line_size) for plane in self._new().planes]
        self.size = sum(height * line for height, line in self._lines)

    def write(self, picture: av.VideoFrame, row: np.ndarray) -> None:
        """Copies a picture into a row, uint8 `[size]`."""
        for samples, part in zip(_samples(picture), self._parts(row), strict=True):
            line = min(samples.shape[1], part.shape[1])  # the rest of either is padding
            part[:, :line] = samples[:, :line]

    def fill(self, picture: av.VideoFrame, row: np.ndarray) -> None:
        """Copies a row into a picture that nobody else holds."""
        for samples, part in zip(_samples(picture), self._parts(row), strict=True):
            line = min(samples.shape[1], part.shape[1])
            samples[:, :line] = part[:, :line]

    def picture(self, row: np.ndarray) -> av.VideoFrame:
        """A new picture with the samples of a row, without tags."""
        picture = self._new()
        self.fill(picture, row)
        return picture

    def _parts(self, row: np.ndarray) -> list[np.ndarray]:
        parts, start = [], 0
        for height, line in self._lines:
            end = start + height * line
            parts.append(row[start:end].reshape(height, line))
            start = end
        return parts


@dataclasses.dataclass(frozen=True)
class KeptFrames:
    """All frames of one video.

    Attributes:
      pixels: uint8 `[num_frames, Layout.size]`, in memory or mapped from a file.
      kind: of every frame.
      siting: where chroma samples lie, see `chroma_siting`.
      about: what else `kept_video.KeptVideo` tells of the video, JSON values.
    """

    pixels: np.ndarray
    kind: PictureKind
    siting: str
    about: dict[str, Any]


def keepable(pixel_format: str) -> bool:
    """Whether `Layout` can hold pictures of a format: 8 bits a component, no palette."""
    known = av.VideoFormat(pixel_format)
    plain = not known.has_palette and not known.is_bit_stream
    return plain and all(component.bits == 8 for component in known.components)


def chroma_siting(picture: av.VideoFrame) -> str | None:
    """Where the chroma samples of a decoded picture lie, as FFmpeg's scale filter names it.

    The decoder notes it in the picture, scaling obeys it, PyAV does not tell it. So the picture is
    filled with noise, and the noise converted under every name until the outcome is the picture's.

    Args:
      picture: its samples are lost.

    Returns:
      "" where it is not said, or there is no chroma to lie anywhere; None if nothing gives the
      picture's own outcome.
    """
    kind = PictureKind.of(picture)
    layout = Layout(*kind[:3])
    noise = np.random.default_rng(0).integers(0, 256, layout.size, np.uint8)
    picture.make_writable()
    layout.fill(picture, noise)
    geometry = Geometry((kind.height, kind.width))
    box = Box(0, 0, min(kind.height, 32), min(kind.width, 32))
    truth = Converter(geometry, box, (23, 23), False)(picture)
    for siting in _SITINGS:
        converter = Converter(geometry, box, (23, 23), False, siting)
        if np.array_equal(converter(tagged(layout.picture(noise), kind)), truth):
            return siting
    return None


def tagged(picture: av.VideoFrame, kind: PictureKind) -> av.VideoFrame:
    """The picture, with the tags of its kind."""
    picture.colorspace, picture.color_range = kind.colorspace, kind.color_range
    return picture


def _samples(picture: av.VideoFrame) -> list[np.ndarray]:
    """Views of the planes, uint8 [lines, bytes of a line with its padding]."""
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        for plane in picture.planes
    ]
