"""Frame-accurate decode-crop-resize of chosen frames; a bad video raises `VideoError` and no more.

The plan, per clip: demux all packets into memory; sort their presentation times, which gives the
display index of each frame; group the wanted frames by key frame; decode each group from its key
frame to its last wanted frame, leaving out the H.264 pictures that are neither wanted nor a
reference (the wanted ones stay bit-exact); crop, scale and convert only the wanted ones.

The truth that this is held against is the sequence of frames of a full decode from the first packet
to the last. Where packets cannot be trusted to tell it (`demux.build_timeline` lists when: MPEG-2,
MPEG-4 part 2, GIF, anything in AVI, missing time stamps, streams cut before a key frame, ...), the
file is decoded from its start: once on opening, to count and time its frames, and, unless the
frames were few and small enough to be kept, again on reading.
"""

import os

import numpy as np

from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.demux import (
    Packets,
    open_container,
    pixel_limit,
    raised_as_video_error,
    seconds,
    video_stream,
)
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.frames import Frames
from data_pipelines.reading.pictures import Box, Converter, Orientation
from data_pipelines.reading.time_limit import Deadline

__all__ = ["Box", "Video", "VideoError", "open_video"]


def open_video(
    source: str | os.PathLike | bytes | ArrayVideo,
    *,
    name: str | None = None,
    max_pixels: int = 64 << 20,
    strict: bool = False,
    seconds: float | None = None,
) -> "Video | ArrayVideo":
    """Open a video file, or the bytes of one, for reading frames by display index.

    Args:
      source: path, or the content of a file; a video in memory is returned as it is.
      name: how errors call it; the path, or `<bytes>`, if not given.
      max_pixels: largest width x height that will be decoded.
      strict: refuse truncated files and damaged or missing frames instead of filling in.
      seconds: from now until the last frame is read; longer is an error. None: no limit.

    Returns:
      A `Video`: a context manager that holds the file open until it is closed.

    Raises:
      VideoError: the file is missing, unreadable, too large, or has no decodable video frame; in
        strict mode also if it is truncated. `VideoTimeoutError`, also while reading, when `seconds`
        have passed; a decoder looks at the time before every packet.
    """
    if isinstance(source, ArrayVideo):
        return source
    if name is None:
        name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    return Video(source, name, max_pixels, strict, Deadline(name, seconds))


class Video:
    """An open video; make it with `open_video`.

    Attributes:
      name: what errors call it.
      num_frames: frames in display order. Of a damaged file: those it has packets for.
      height, width: of the upright picture, in pixels.
      times: float64 `[num_frames]`, presentation seconds, the first 0.
      duration: seconds until the end of the last frame.
      fps: mean frames per second, `num_frames / duration` (0 for a still of unknown duration).
      codec: FFmpeg's name of the codec, such as `h264`.
      gop: most packets from one place where decoding may start to the next; all of them where the
        frames are not planned.
      planned: whether frames are located from packets alone, without a full decode.
    """

    def __init__(self, source, name: str, max_pixels: int, strict: bool, deadline: Deadline):
        self.name, self._strict, self._deadline = name, strict, deadline
        self._frames: Frames | None = None
        self._container = open_container(source, name, max_pixels)
        try:
            with raised_as_video_error(name):
                self._open(source, max_pixels)
        except BaseException:
            self.close()
            raise

    def _open(self, source, max_pixels: int) -> None:
        stream = video_stream(self._container, self.name)
        context = stream.codec_context
        context.thread_count = 1  # parallelism is the pipeline's: a thread for each clip
        context.options = pixel_limit(max_pixels)
        self.codec = context.codec.canonical_name
        self._check_pixels(context.height, context.width, max_pixels)
        packets = Packets(source, self.name, max_pixels, self._container, stream, self._deadline)
        if self._strict:
            self._check_complete(stream, packets)
        self._frames = frames = Frames(self.name, stream, packets, self._strict, self._deadline)
        self.planned = frames.planned
        self.num_frames = len(frames.pts)
        self.gop = packets.longest_gop() if frames.planned else self.num_frames
        self._coded_size = (frames.first.height, frames.first.width)
        self._check_pixels(*self._coded_size, max_pixels)
        self._orientation = Orientation.of(frames.first)
        self.height, self.width = self._orientation.size(*self._coded_size)
        self.times, self.duration = seconds(
            frames.pts, frames.last_duration, float(stream.time_base)
        )
        self.fps = self.num_frames / self.duration if self.duration > 0 else 0.0

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and free the packets; reading afterwards raises ValueError."""
        self._container.close()
        self._frames = None

    @property
    def corrupt_frames(self) -> int:
        """Frames decoded so far that the decoder flags as damaged (and has patched up)."""
        return len(self._open_frames().corrupt)

    @property
    def missing_frames(self) -> int:
        """Frames asked for so far that could not be decoded, and were replaced by a neighbour."""
        return len(self._open_frames().missing)

    def _open_frames(self) -> Frames:
        if self._frames is None:
            raise ValueError(f"{self.name} is closed")
        return self._frames

    def span(self, start_seconds: float, end_seconds: float) -> tuple[int, int]:
        """(first, last_exclusive) indices of the frames on display in [start, end), at least one.

        The end may lie after the video's (annotations often do); the start may not.

        Raises:
          ValueError: not 0 <= start < end.
          VideoError: the span starts after the video ends.
        """
        if not 0 <= start_seconds < end_seconds:
            raise ValueError(f"span {start_seconds}..{end_seconds} s: 0 <= start < end is required")
        if start_seconds >= max(self.duration, 1e-6):
            raise VideoError(
                self.name,
                f"span starts at {start_seconds} s, the video ends at {self.duration:.3f} s",
            )
        # A microsecond of slack: times such as 1/3 s are not exact in binary.
        first = int(np.searchsorted(self.times, start_seconds + 1e-6, side="right")) - 1
        last = int(np.searchsorted(self.times, end_seconds - 1e-6, side="left"))
        return first, max(last, first + 1)

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Decode frames by display index.

        Args:
          indices: ints `[T]` in 0..num_frames-1, in any order, repeats allowed.
          box: what to cut out of the upright picture, all of it if None. Its origin is moved to
            even numbers in the coded picture (see `pictures.Converter`).
          size: (height, width) to scale the box to; the box's own if None.
          flip: mirror left to right.

        Returns:
          uint8 `[T, height, width, 3]`, RGB.

        Raises:
          IndexError: an index outside the video.
          ValueError: a box outside the picture, an empty size, or a closed video.
          VideoError: nothing can be decoded; in strict mode also if frames are missing or damaged.
        """
        frames = self._open_frames()
        indices = self._check_request(indices, box, size)
        converter = Converter(self._coded_size, self._orientation, box, size, flip)
        out = np.empty((len(indices), *converter.size, 3), np.uint8)
        if not len(indices):
            return out
        wanted = np.unique(indices)
        with raised_as_video_error(self.name):
            if not frames.planned or not self._fill(
                out, indices, converter, frames.planned_frames(wanted)
            ):
                self._fill(out, indices, converter, frames.all_frames(wanted))
        return out

    def scan(self) -> None:
        """Decode every frame once and keep none; then all missing and damaged ones are counted.

        Raises:
          VideoError: nothing can be decoded; in strict mode also if frames are missing or damaged.
        """
        frames = self._open_frames()
        with raised_as_video_error(self.name):
            for _ in frames.all_frames(np.arange(self.num_frames)):
                pass

    def _fill(self, out, indices, converter, frames) -> bool:
        """Convert (index, frame) pairs into `out`; False if frames announce damage with None."""
        for index, frame in frames:
            if frame is None:
                return False
            out[indices == index] = converter(frame)
        return True

    def _check_pixels(self, height: int, width: int, max_pixels: int) -> None:
        if height * width > max_pixels:
            raise VideoError(self.name, f"{width}x{height} is more than max_pixels = {max_pixels}")

    def _check_complete(self, stream, packets: Packets) -> None:
        """Refuse a file that ends early: demuxing failed, or MP4's tables list more packets."""
        if packets.damage:
            raise VideoError(self.name, packets.damage)
        found = len(packets.records)
        is_mp4 = self._container.format.name.startswith("mov,")
        listed = len(stream.index_entries) if is_mp4 else 0  # less what edit lists leave out
        if listed > found:
            reason = f"truncated: {listed - found} of its {listed} frames are missing"
            raise VideoError(self.name, reason)

    def _check_request(self, indices, box: Box | None, size: tuple[int, int] | None) -> np.ndarray:
        """The indices as int64 `[T]`, if they, the box and the size can be served."""
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
