"""A video that is a folder of consecutive chunks, files named by their start second.

As AVION lays out Ego4D and EPIC-KITCHENS: `VIDEO.mp4/0.mp4`, `VIDEO.mp4/15.mp4`, ..
A chunk that is missing, broken or too short costs its own seconds, not the whole video.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_pipelines.reading.base import BaseVideo
from data_pipelines.reading.errors import VideoError, VideoTimeoutError
from data_pipelines.reading.folders import ChunkFolder
from data_pipelines.reading.geometry import Box

SLACK = 1e-6  # of a frame: products such as 14.55 s x 20 fps are not exact in binary


class Hole(NamedTuple):
    """Seconds without frames: where they start, the file that should hold them, why it does not."""

    start: float
    file: str
    reason: str


class ChunkedVideo(BaseVideo):
    """An open folder of chunks; `video.Video` says what the attributes are.

    Frame number n of the whole video is on display at n / fps seconds. The chunk that starts at
    second s holds those from there up to second s + c, where c, the length of a chunk, is the
    smallest distance of two starts; the last chunk has as many as its file has. (AVION's loader
    looks for the last frame before s in that chunk, too, where s fps is no whole number.)

    Where chunks are missing, and where the first or the last cannot be opened, there are no frames:
    indices leave them out, `times` do not. A chunk that proves unreadable later is replaced by the
    frames that were asked for before and after it; one that is shorter than it says stands still
    at its end. `damage` tells of each that was met; in strict mode they are errors.

    Opening reads the first chunk (size, frame rate) and the last (its length), `read` the chunks
    that hold a wanted frame, no others.
    """

    def __init__(
        self,
        folder: ChunkFolder,
        name: str,
        open_file: Callable[[str, str], BaseVideo],
        strict: bool = False,
    ):
        """Opens the folder; `open_file` opens a chunk, given its path and the name for errors.

        Raises:
          VideoError: there is no chunk, or none that can be opened; in strict mode also if the
            first or the last cannot.
        """
        self.name, self._folder, self._open_file = name, os.fspath(folder.path), open_file
        self._strict = strict
        self._open: dict[str, BaseVideo] = {}
        self._damage: dict[str, str] = {}
        self._size: tuple[int, int] | None = None  # (height, width) of the chunk opened first
        try:
            chunks = folder.chunks()
        except VideoError as error:
            raise VideoError(name, error.reason) from error
        try:
            self._measure(chunks, folder.fps)
        except BaseException:
            self.close()
            raise

    def _measure(self, chunks: list[tuple[float, str]], fps: float | None) -> None:
        starts = np.array([start for start, _ in chunks])
        self._seconds = float(np.diff(starts).min()) if len(starts) > 1 else None
        self._holes = self._missing(chunks)
        first = self._openable(chunks, 0)
        last = self._openable(chunks, -1)
        self.height, self.width = self._size
        self.codec, self.gop = first.codec, first.gop
        self.fps = fps or first.fps
        if not self.fps > 0:
            raise VideoError(self.name, "the frame rate is not known: give ChunkFolder(fps=..)")
        starts, self._files = map(np.array, zip(*chunks, strict=True))
        begin = self._number_at(starts)
        end = np.append(begin[1:], begin[-1] + last.num_frames)
        if self._seconds is not None:
            end[:-1] = np.minimum(end[:-1], self._number_at(starts[:-1] + self._seconds))
        self._begin, self._counts = begin, end - begin
        self._chunk_of = np.repeat(np.arange(len(starts)), self._counts)
        numbers = [np.arange(*bounds) for bounds in zip(begin, end, strict=True)]
        self._numbers = np.concatenate(numbers)  # of the frames in the whole video
        self.num_frames = len(self._numbers)
        self.times = self._numbers / self.fps
        self.duration = float(self.times[-1] + 1 / self.fps)

    def _missing(self, chunks: list[tuple[float, str]]) -> list[Hole]:
        """The chunks that should lie between others."""
        holes = []
        for (start, file), (after, _) in zip(chunks, chunks[1:], strict=False):
            for second in np.arange(start + self._seconds, after - SLACK, self._seconds):
                name = f"{second:.10g}{os.path.splitext(file)[1]}"
                holes.append(Hole(float(second), name, "missing"))
        return holes

    def _openable(self, chunks: list[tuple[float, str]], place: int) -> BaseVideo:
        """The first (0) or last (-1) chunk; what cannot be opened becomes a hole, if any can."""
        while True:
            start, file = chunks[place]
            try:
                return self._chunk(file)
            except VideoTimeoutError:
                raise
            except VideoError as error:
                if self._strict or len(chunks) == 1:
                    raise
                self._holes.append(Hole(start, file, _reason(error, file)))
                del chunks[place]

    def _number_at(self, seconds: np.ndarray) -> np.ndarray:
        return np.ceil(seconds * self.fps - SLACK).astype(np.int64)

    def close(self) -> None:
        """Close all chunks."""
        self._keep(())

    def span(
        self, start_seconds: float, end_seconds: float, *, nearest: bool = False
    ) -> tuple[int, int]:
        """(first, last_exclusive) as `video.Video.span`; what chunks have lost is left out.

        With `nearest`, the last frame of all is no part of a span that ends after it, as in AVION.

        Raises:
          ValueError: not 0 <= start < end.
          VideoError: the span starts after the video ends, or chunks have lost all of it.
        """
        holes = self._note_holes(start_seconds, end_seconds)
        if holes and start_seconds >= self.duration:
            raise self._error(holes[0].file, holes[0].reason)
        first, last = super().span(start_seconds, end_seconds, nearest=nearest)
        if nearest and end_seconds > self.times[-1]:
            last = max(last - 1, first + 1)
        if self.times[first] + (1 + SLACK) / self.fps <= start_seconds:  # it stands before a hole
            first += 1
        if holes and (first >= last or self.times[first] >= end_seconds):
            raise self._error(holes[0].file, holes[0].reason)
        return first, max(last, first + 1)

    def _note_holes(self, start: float, end: float) -> list[Hole]:
        """The holes in a span of seconds; `damage` knows them from now on."""
        length = self._seconds or 0.0
        met = [hole for hole in self._holes if hole.start < end and start < hole.start + length]
        for hole in met:
            self._note(hole.file, hole.reason)
        return met

    def scan(self) -> None:
        """Decodes every chunk once and keeps none; then `damage` knows all that is lost.

        Raises:
          VideoError: none can be read; in strict mode also if one is lost.
        """
        self._note_holes(0.0, np.inf)
        errors = []
        for file, count in zip(self._files, self._counts, strict=True):
            try:
                chunk = self._chunk(file)
                self._named(file, chunk.scan)
                self._note_chunk(file, chunk, count - 1)
            except VideoTimeoutError:
                raise
            except VideoError as error:
                errors.append(error)
                self._note(file, _reason(error, file))
            self._keep((file,))
        if len(errors) == len(self._files):
            raise errors[0]

    def defects(self) -> str | None:
        """What `damage` says, in one text."""
        return "; ".join(f"chunk {file}: {why}" for file, why in self._damage.items()) or None

    def damage(self) -> dict[str, str]:
        """Path of each chunk that spans, reads and scans have missed so far -> why."""
        return {os.path.join(self.name, file): why for file, why in self._damage.items()}

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
          VideoError: none of the chunks can be read; in strict mode, one cannot or is too short.
        """
        indices = self.check_request(indices, box, size)
        shape = size or (box[2:] if box is not None else (self.height, self.width))
        out = np.empty((len(indices), *shape, 3), np.uint8)
        if not len(indices):
            return out
        chunks = self._chunk_of[indices]
        wanted = np.unique(chunks).tolist()
        self._keep(self._files[wanted])  # those of the read before, which mostly wants the same
        lost = []
        for number in wanted:
            here, file = chunks == number, self._files[number]
            offsets = self._numbers[indices[here]] - self._begin[number]
            try:
                chunk = self._chunk(file)
                within = np.minimum(offsets, chunk.num_frames - 1)
                out[here] = self._named(
                    file, lambda c=chunk, o=within: c.read(o, box=box, size=size, flip=flip)
                )
                self._note_chunk(file, chunk, int(offsets.max()))
            except VideoTimeoutError:
                raise
            except VideoError as error:
                lost.append(number)
                self._note(file, _reason(error, file))
                if len(lost) == len(wanted):
                    raise
        self._note_holes(self.times[indices.min()], self.times[indices.max()])
        replaced = np.isin(chunks, lost)
        out[replaced] = out[_nearest(indices, replaced)]
        return out

    def _chunk(self, file: str) -> BaseVideo:
        if file not in self._open:
            path = os.path.join(self._folder, file)
            chunk = self._named(file, lambda: self._open_file(path, self.name))
            size = (chunk.height, chunk.width)
            self._size = self._size or size
            if size != self._size:
                chunk.close()
                wrong, right = (f"{width}x{height}" for height, width in (size, self._size))
                raise self._error(file, f"is {wrong}, the first one {right}")
            self._open[file] = chunk
        return self._open[file]

    def _note_chunk(self, file: str, chunk: BaseVideo, offset: int) -> None:
        """Notes what is wrong with a chunk that was read up to the frame `offset`."""
        if chunk.defects():
            self._note(file, chunk.defects())
        if offset >= chunk.num_frames:
            self._note(file, f"holds {chunk.num_frames} frames, {offset + 1} are needed")

    def _note(self, file: str, reason: str) -> None:
        self._damage.setdefault(str(file), reason)
        if self._strict:
            raise self._error(file, reason)

    def _keep(self, files) -> None:
        """Closes all other chunks."""
        for file in set(self._open).difference(files):
            self._open.pop(file).close()

    def _error(self, file: str, reason: str) -> VideoError:
        return VideoError(self.name, f"chunk {file}: {reason}")

    def _named(self, file: str, call: Callable):
        """`call()`; its errors name the chunk beside the video."""
        try:
            return call()
        except VideoTimeoutError:
            raise
        except VideoError as error:
            raise self._error(file, error.reason) from error


def _reason(error: VideoError, file: str) -> str:
    return error.reason.removeprefix(f"chunk {file}: ")


def _nearest(indices: np.ndarray, replaced: np.ndarray) -> np.ndarray:
    """Places in a request of the nearest earlier frames that stay, else of the next ones."""
    kept = np.flatnonzero(~replaced)
    kept = kept[np.argsort(indices[kept], kind="stable")]
    places = np.searchsorted(indices[kept], indices[replaced]) - 1
    return kept[np.maximum(places, 0)]
