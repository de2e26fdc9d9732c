"""A video that is a folder of consecutive chunks, files named by their start second.

As AVION lays out Ego4D and EPIC-KITCHENS: `VIDEO.mp4/0.mp4`, `VIDEO.mp4/15.mp4`, ..
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from data_pipelines.reading.base import BaseVideo
from data_pipelines.reading.decode import VideoFile
from data_pipelines.reading.errors import VideoError, VideoTimeoutError
from data_pipelines.reading.folders import ChunkFolder
from data_pipelines.reading.geometry import Box


class ChunkedVideo(BaseVideo):
    """An open folder of chunks; `video.Video` says what the attributes are.

    Frame number n of the whole video is on display at n / fps seconds. As in AVION's loader, the
    chunk that starts at second s holds the numbers int(s fps) up to int((s + c) fps) - 1, where c,
    the length of a chunk, is the smallest distance of two starts; the last chunk has as many as its
    file has. Frame n is frame int(n - s fps) of the file, or its last one if the file is shorter
    than it says. A gap between chunks holds no frames: indices leave it out, `times` do not.

    Opening reads the first chunk (size, frame rate) and the last (its length), `read` the chunks
    that hold a wanted frame, no others.
    """

    def __init__(self, folder: ChunkFolder, name: str, open_file: Callable[[str, str], VideoFile]):
        """Opens the folder; `open_file` opens a chunk, given its path and the name for errors.

        Raises:
          VideoError: there is no chunk, or the first or last cannot be read.
        """
        self.name, self._folder, self._open_file = name, os.fspath(folder.path), open_file
        self._open: dict[int, VideoFile] = {}
        self._defects: dict[int, str] = {}
        try:
            self._starts, self._files = zip(*folder.chunks(), strict=True)
        except VideoError as error:
            raise VideoError(name, error.reason) from error
        try:
            self._measure(folder.fps)
        except BaseException:
            self.close()
            raise

    def _measure(self, fps: float | None) -> None:
        first, last = self._chunk(0), self._chunk(len(self._files) - 1)
        self.height, self.width = first.height, first.width
        self.codec, self.gop = first.codec, first.gop
        self.fps = fps or first.fps
        if not self.fps > 0:
            raise VideoError(self.name, "the frame rate is not known: give ChunkFolder(fps=..)")
        starts = np.asarray(self._starts)
        begin = (starts * self.fps + 1e-6).astype(np.int64)
        end = np.append(begin[1:], begin[-1] + last.num_frames)
        if len(starts) > 1:
            length = np.diff(starts).min()
            end[:-1] = np.minimum(end[:-1], ((starts[:-1] + length) * self.fps + 1e-6).astype(int))
        self._chunk_of = np.repeat(np.arange(len(starts)), end - begin)
        numbers = [np.arange(*bounds) for bounds in zip(begin, end, strict=True)]
        self._numbers = np.concatenate(numbers)  # of the frames in the whole video
        self.num_frames = len(self._numbers)
        self.times = self._numbers / self.fps
        self.duration = float(self.times[-1] + 1 / self.fps)

    def close(self) -> None:
        """Close all chunks."""
        self._keep(())

    def scan(self) -> None:
        """Decodes every chunk once and keeps none.

        Raises:
          VideoError: one cannot be read, or is of another size; the reason names it.
        """
        for number in range(len(self._files)):
            chunk = self._chunk(number)
            self._named(number, chunk.scan)
            if chunk.defects():
                self._defects[number] = f"chunk {self._files[number]}: {chunk.defects()}"
            self._keep((number,))

    def defects(self) -> str | None:
        """What `scan` has found missing or damaged."""
        return "; ".join(self._defects.values()) or None

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
          VideoError: a chunk cannot be read, or is of another size; the reason names it.
        """
        indices = self.check_request(indices, box, size)
        shape = size or (box[2:] if box is not None else (self.height, self.width))
        out = np.empty((len(indices), *shape, 3), np.uint8)
        chunks = self._chunk_of[indices]
        wanted = np.unique(chunks).tolist()
        self._keep(wanted)  # those of the read before, which mostly wants the same ones
        for number in wanted:
            here, chunk = chunks == number, self._chunk(number)
            offsets = self._numbers[indices[here]] - self._starts[number] * self.fps + 1e-6
            offsets = np.clip(offsets.astype(np.int64), 0, chunk.num_frames - 1)
            out[here] = self._named(
                number, lambda c=chunk, o=offsets: c.read(o, box=box, size=size, flip=flip)
            )
        return out

    def _chunk(self, number: int) -> VideoFile:
        if number not in self._open:
            path = os.path.join(self._folder, self._files[number])
            chunk = self._named(number, lambda: self._open_file(path, self.name))
            self._open[number] = chunk
            first = self._open.get(0, chunk) if not hasattr(self, "height") else self
            if (chunk.height, chunk.width) != (first.height, first.width):
                raise VideoError(
                    self.name,
                    f"chunk {self._files[number]} is {chunk.width}x{chunk.height}, the first one "
                    f"{first.width}x{first.height}",
                )
        return self._open[number]

    def _keep(self, numbers) -> None:
        """Closes all other chunks."""
        for number in set(self._open).difference(numbers):
            self._open.pop(number).close()

    def _named(self, number: int, call: Callable):
        """`call()`; its errors name the chunk beside the video."""
        try:
            return call()
        except VideoTimeoutError:
            raise
        except VideoError as error:
            raise VideoError(self.name, f"chunk {self._files[number]}: {error.reason}") from error
