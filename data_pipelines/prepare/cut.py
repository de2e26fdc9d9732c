"""One long video to a folder of chunks named by their start second."""

from __future__ import annotations

import fractions
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_pipelines.prepare.encode import ChunkWriter, Settings
from data_pipelines.reading.decode import VideoFile
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.video import open_video
from data_pipelines.sources.video_manifest import Entry

MP4_NAMES = (".mp4", ".m4v", ".mov")  # endings that a chunk takes over from its video


class Chunk(NamedTuple):
    """What a chunk holds: its file's name, and frames [n] int64 of the video, ascending."""

    name: str
    frames: np.ndarray


def cut(source: str, folder: str, settings: Settings) -> Entry:
    """Cuts a video; chunks that are there already are left as they are.

    Args:
      source: path of the video.
      folder: that its chunks are put into; made if it is not there.
      settings: how.

    Returns:
      What `folder` now holds, in the words of the doctor's manifests; with an `error`, and nothing
      written, if the video cannot be read.

    Raises:
      OSError: the chunks cannot be written.
    """
    try:
        with open_video(source) as video:
            if not isinstance(video, VideoFile):
                raise VideoError(source, "is a folder; name the video files in it")
            rate = frame_rate(video, settings)
            chunks = plan(video, rate, settings, os.path.splitext(source)[1])
            os.makedirs(folder, exist_ok=True)
            _write(video, chunks, folder, rate, settings)
            warning = video.defects()
    except VideoError as error:
        return Entry(folder, error=error.reason)
    count = sum(len(chunk.frames) for chunk in chunks)
    height, width = settings.size(video.height, video.width)
    return Entry(
        folder,
        bytes=sum(os.path.getsize(os.path.join(folder, chunk.name)) for chunk in chunks),
        frames=count,
        fps=round(float(rate), 4),
        duration=round(float(count / rate), 4),
        width=width,
        height=height,
        codec="h264",
        gop=settings.gop,
        warning=warning,
    )


def frame_rate(video: VideoFile, settings: Settings) -> fractions.Fraction:
    """Frames per second of the chunks.

    Raises:
      VideoError: the video does not tell, and nor do the settings.
    """
    rate = settings.fps or fractions.Fraction(video.fps).limit_denominator(1001)
    if rate <= 0:
        raise VideoError(video.name, "its frame rate is not known: give one (--fps)")
    return rate


def plan(
    video: VideoFile, rate: fractions.Fraction, settings: Settings, ending: str
) -> list[Chunk]:
    """The chunks of a video at a constant frame rate.

    Frame n is the one on display at n / rate seconds of a player's clock, by up to a quarter of a
    frame earlier: containers round times to milliseconds. Chunk k begins with the first frame at
    or after k * seconds.
    """
    count = max(round(video.duration * rate), 1)
    moments = (np.arange(count) + 0.25) / float(rate)
    sources = np.maximum(np.searchsorted(video.times, moments, side="right") - 1, 0)
    length = fractions.Fraction(settings.seconds).limit_denominator(1000)
    begins = [math.ceil(k * length * rate) for k in range(math.ceil(count / rate / length) + 1)]
    ending = ending if ending.lower() in MP4_NAMES else ".mp4"
    return [
        Chunk(f"{float(k * length):.10g}{ending}", sources[begin:end])
        for k, (begin, end) in enumerate(zip(begins, begins[1:], strict=False))
        if begin < count
    ]


def _write(video, chunks: list[Chunk], folder: str, rate, settings: Settings) -> None:
    """Encodes the chunks that are not there, decoding each wanted frame once."""
    chunks = [chunk for chunk in chunks if not os.path.exists(os.path.join(folder, chunk.name))]
    if not chunks:
        return
    pictures = _each(video, np.concatenate([chunk.frames for chunk in chunks]))
    for chunk in chunks:
        path = os.path.join(folder, chunk.name)
        with ChunkWriter(path, rate, settings, video.geometry.orientation) as writer:
            for _, picture in zip(chunk.frames, pictures, strict=False):
                writer.write(picture)


def _each(video: VideoFile, frames: np.ndarray) -> Iterator:
    """The picture of each of the ascending `frames`, repeats included."""
    pictures = video.pictures(np.unique(frames))
    index, picture = next(pictures)
    for wanted in frames.tolist():
        while index < wanted:
            index, picture = next(pictures)
        yield picture
