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
from collections.abc import Iterator

import av
import numpy as np

from data_pipelines.reading.base import CodedVideo
from data_pipelines.reading.container import (
    clock_start,
    open_container,
    pixel_limit,
    raised_as_video_error,
    video_stream,
)
from data_pipelines.reading.demux import Packets
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.frames import Frames
from data_pipelines.reading.geometry import Box, Geometry, Orientation
from data_pipelines.reading.pictures import Converter, picture_kind
from data_pipelines.reading.time_limit import Deadline
from data_pipelines.reading.timeline import seconds


class VideoFile(CodedVideo):
    """An open file or the bytes of one; `video.Video` says what the attributes are.

    Attributes:
      planned: whether frames are located from packets alone, without a full decode.
    """

    def __init__(
        self,
        source: str | os.PathLike | bytes,
        name: str,
        max_pixels: int,
        strict: bool,
        square_pixels: bool,
        deadline: Deadline,
    ):
        """Arguments are those of `video.open_video`, which says what is raised."""
        self.name, self._strict, self._deadline = name, strict, deadline
        self._frames: Frames | None = None
        self._container = open_container(source, name, max_pixels)
        try:
            with raised_as_video_error(name):
                self._open(source, max_pixels, square_pixels)
        except BaseException:
            self.close()
            raise

    def _open(self, source, max_pixels: int, square_pixels: bool) -> None:
        stream = video_stream(self._container, self.name)
        context = stream.codec_context
        context.thread_count = 1  # parallelism is the pipeline's: a thread for each clip
        context.options = pixel_limit(max_pixels)
        self.codec = context.codec.canonical_name
        self._check_pixels(context.height, context.width, max_pixels)
        packets = Packets(source, self.name, max_pixels, self._container, stream, self._deadline)
        self._truncation = self._cut_off(stream, packets)
        if self._strict and self._truncation:
            raise VideoError(self.name, self._truncation)
        self._frames = frames = Frames(self.name, stream, packets, self._strict, self._deadline)
        self.planned = frames.planned
        self.num_frames = len(frames.pts)
        self.gop = packets.longest_gop() if frames.planned else self.num_frames
        size = (frames.first.height, frames.first.width)
        self._check_pixels(*size, max_pixels)
        aspect = stream.sample_aspect_ratio if square_pixels else None
        self.geometry = Geometry(size, Orientation.of(frames.first), aspect)
        self.pixel_format = frames.first.format.name
        self.height, self.width = self.geometry.size
        self._check_pixels(self.height, self.width, max_pixels)
        unit = float(stream.time_base)
        clock = clock_start(self._container, stream, float(frames.pts[0]) * unit)
        self.times, self.duration = seconds(frames.pts, frames.last_duration, unit, clock)
        shown = self.duration - float(self.times[0])
        self.fps = self.num_frames / shown if shown > 0 else 0.0

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

    def read(
        self,
        indices: np.ndarray,
        *,
        box: Box | None = None,
        size: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Decode frames by display index, as `video.Video.read`; uint8 `[T, h, w, 3]`.

        The box's origin is moved to even numbers in the coded picture (see `pictures.Converter`).

        Raises:
          IndexError, ValueError: see `check_request`; ValueError also if the video is closed.
          VideoError: nothing can be decoded; in strict mode also if frames are missing or damaged.
        """
        frames = self._open_frames()
        indices = self.check_request(indices, box, size)
        converter = Converter(self.geometry, box, size, flip)
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

    def pictures(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, picture as it is coded) of some frames, one after the other.

        Pictures of a turned video are not upright, see `geometry`.

        Args:
          wanted: int64 `[n]`, ascending display indices without repeats.

        Raises:
          VideoError: see `read`.
        """
        frames, done = self._open_frames(), 0
        with raised_as_video_error(self.name):
            if frames.planned:
                for index, frame in frames.planned_frames(wanted):
                    if frame is None:
                        break
                    yield index, frame
                    done += 1
            if done < len(wanted):
                yield from frames.all_frames(wanted[done:])

    def scan(self) -> None:
        """Decode every frame once and keep none; then `defects` knows all of them.

        A picture of each kind in the file is converted, as `read` does.

        Raises:
          VideoError: nothing can be decoded or converted; in strict mode also if frames are missing
            or damaged.
        """
        frames, kinds = self._open_frames(), set()
        convert = Converter(self.geometry, None, (16, 16), False)
        with raised_as_video_error(self.name):
            for _, frame in frames.all_frames(np.arange(self.num_frames)):
                kind = picture_kind(frame)
                if kind not in kinds:
                    kinds.add(kind)
                    convert(frame)

    def defects(self) -> str | None:
        """What is missing or damaged, and was replaced, as far as frames were decoded so far."""
        frames = self._open_frames()
        found = [self._truncation] if self._truncation else []
        if frames.rejected and not frames.planned:  # else they are among the missing
            found.append(f"{frames.rejected} of its packets cannot be decoded")
        if frames.missing or frames.corrupt:
            found.append(
                f"of its {self.num_frames} frames, {len(frames.missing)} are missing and "
                f"{len(frames.corrupt)} damaged"
            )
        return "; ".join(found) or None

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

    def _cut_off(self, stream, packets: Packets) -> str | None:
        """Why the file ends early: demuxing failed, or MP4's tables list more packets."""
        if packets.damage:
            return packets.damage
        found = len(packets.records)
        is_mp4 = self._container.format.name.startswith("mov,")
        listed = len(stream.index_entries) if is_mp4 else 0  # less what edit lists leave out
        if listed > found:
            return f"truncated: {listed - found} of its {listed} frames are missing"
        return None
