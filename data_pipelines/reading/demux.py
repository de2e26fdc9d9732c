"""Packets of a video: opening the file, the exact display order, and where decoding has to start.

Demuxing the whole stream costs a few milliseconds and answers, without decoding and without
seeking, which frame is shown when: for constant and variable frame rates, edit lists (packets
flagged "discard"), offsets, and containers without an index. See `Timeline`.
"""

import contextlib
import io
import itertools
import os
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from data_pipelines.reading.bitstream import PLANNED_CODECS, frames_shown, restarts
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.time_limit import Deadline

PLANNED_CONTAINERS = ("mov,", "matroska,", "flv", "mpegts", "jpeg_pipe")
"""Formats (FFmpeg's names begin so) that store presentation times; AVI has decode order alone."""

HELD_BYTES = 512 << 20
"""Streams larger than this keep no packets in memory: they are read again from the file."""

# PyAV 18 raises on metadata that is not UTF-8 unless told otherwise; PyAV 19 has no such option.
READ_OPTIONS = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

# What PyAV raises on a bad file. Some kinds of FFmpegError are OSError, ValueError or EOFError,
# too; LookupError covers the IndexError of stream lookup, ValueError UnicodeDecodeError.
PYAV_ERRORS = (av.FFmpegError, OSError, EOFError, ValueError, LookupError, MemoryError)


@contextlib.contextmanager
def raised_as_video_error(name: str) -> Iterator[None]:
    """Turn whatever PyAV raises inside the block into `VideoError`."""
    try:
        yield
    except PYAV_ERRORS as error:
        # FFmpeg's message repeats the file name; strerror is the reason alone.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(name, reason) from error


def pixel_limit(max_pixels: int) -> dict[str, str]:
    """Decoder option that stops pictures which grow past the limit; FFmpeg counts padding, too."""
    return {"max_pixels": str(2 * max_pixels + (1 << 20))}


def open_container(source: str | os.PathLike | bytes, name: str, max_pixels: int):
    """Open a local file, or the bytes of one; `VideoError` if it is missing or unreadable."""
    if isinstance(source, bytes):
        file = io.BytesIO(source)
        if not source:
            raise VideoError(name, "empty file")
    else:
        path = os.fspath(source)
        if os.path.isdir(path):
            raise VideoError(name, "is a directory")
        if not os.path.exists(path):
            raise VideoError(name, "no such file")
        if not os.path.isfile(path):
            raise VideoError(name, "not a regular file")  # a pipe would block for ever
        if not os.path.getsize(path):
            raise VideoError(name, "empty file")
        file = f"file:{path}"  # a name such as concat:x is a path here, not an FFmpeg protocol
    options = {
        **pixel_limit(max_pixels),  # probing may decode a frame
        "protocol_whitelist": "file",  # a playlist in disguise must not reach the network
    }
    with raised_as_video_error(name):
        return av.open(file, options=options, **READ_OPTIONS)


def video_stream(container, name: str):
    """First video stream that is not a cover picture and has a decoder."""
    streams = [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        raise VideoError(name, "no video stream")
    if streams[0].codec_context is None:
        raise VideoError(name, "no decoder for its video codec")
    return streams[0]


class Record(NamedTuple):
    """What the plan needs of a packet; times in units of the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    restart: bool  # decoding may start here
    shown: int  # pictures that come out of it (edit lists discard some)
    odd: bool  # empty, or changes the decoder's configuration


class Packets:
    """All packets of one video stream in decode order.

    Attributes:
      records: a `Record` for each.
      damage: why demuxing stopped early, or None.
      timed: whether the container stores presentation times.
    """

    def __init__(self, source, name: str, max_pixels: int, container, stream, deadline: Deadline):
        self._source, self._name, self._max_pixels = source, name, max_pixels
        self.records: list[Record] = []
        self.damage: str | None = None
        self._held: list[av.Packet] | None = []
        self._codec = stream.codec_context.codec.canonical_name
        self._extradata = bytes(stream.codec_context.extradata or b"")
        self.timed = container.format.name.startswith(PLANNED_CONTAINERS)
        size = 0
        try:
            for packet in _packets(container, stream):
                deadline.check()
                self.records.append(self._describe(packet))
                size += packet.size
                if size > HELD_BYTES:
                    self._held = None
                if self._held is not None:
                    self._held.append(packet)
        except PYAV_ERRORS as error:
            self.damage = str(error)
        if not self.records:
            raise VideoError(name, self.damage or "no video packets")

    def _describe(self, packet: av.Packet) -> Record:
        payload = bytes(packet) if packet.size else b""
        planned = self._codec in PLANNED_CODECS and bool(payload)
        return Record(
            packet.pts,
            packet.dts,
            packet.duration or 0,
            planned and packet.is_keyframe and restarts(self._codec, payload, self._extradata),
            frames_shown(self._codec, payload) if planned and not packet.is_discard else 0,
            not payload or packet.has_sidedata("new_extradata"),
        )

    def longest_gop(self) -> int:
        """Most packets from one place where decoding may start to the next, or to the end."""
        starts = [i for i, record in enumerate(self.records) if record.restart]
        return int(np.diff([*starts, len(self.records)]).max()) if starts else len(self.records)

    def read(self, start: int, stop: int) -> Iterator[av.Packet]:
        """Packets start..stop-1; a stream too large to be held is read from the file again."""
        if self._held is not None:
            yield from self._held[start:stop]
            return
        first = self.records[start]
        # Some formats seek by presentation time, others by decoding time; if neither leads to the
        # packet, a pass from the beginning does.
        for time in (first.pts, first.dts, None) if start else (None,):
            with contextlib.closing(
                open_container(self._source, self._name, self._max_pixels)
            ) as container:
                found = False
                for packet in itertools.islice(self._seek(container, start, time), stop - start):
                    found = True
                    yield packet
                if found:
                    return
        raise VideoError(self._name, f"packet {start} is no longer there")

    def _seek(self, container, start: int, time: int | None) -> Iterator[av.Packet]:
        """Packets from number `start` on after a seek to `time`; none if the seek overshoots."""
        stream = video_stream(container, self._name)
        packets = _packets(container, stream)
        if time is None:
            yield from itertools.islice(packets, start, None)
            return
        with contextlib.suppress(*PYAV_ERRORS):  # if it cannot seek, it reads on from the beginning
            container.seek(time, stream=stream)
        first = self.records[start]
        for packet in packets:
            if (packet.pts, packet.dts) == (first.pts, first.dts):
                yield packet
                yield from packets
                return
            if packet.dts is not None and first.dts is not None and packet.dts > first.dts:
                return


def _packets(container, stream) -> Iterator[av.Packet]:
    """Demux without PyAV's closing flush packet (which has neither data nor times)."""
    for packet in container.demux(stream):
        if packet.size or packet.dts is not None or packet.pts is not None:
            yield packet


class Timeline(NamedTuple):
    """Display order of the frames, all arrays int64 `[num_frames]`.

    Attributes:
      pts: presentation times, strictly increasing.
      position: the packet (in decode order) that holds the frame.
      start: the packet from which decoding reaches the frame exactly: its key frame, or, for a
        picture shown before the key frame it follows (open GOP), the key frame before that.
      last_duration: of the last frame, 0 where unknown.
    """

    pts: np.ndarray
    position: np.ndarray
    start: np.ndarray
    last_duration: int


def build_timeline(packets: Packets) -> Timeline | None:
    """Display order from packets alone, or None where they cannot be trusted.

    Not trusted: codecs outside `PLANNED_CODECS`; containers outside `PLANNED_CONTAINERS`; missing
    or repeated presentation times; a stream that does not begin with a key frame, or whose first
    frames are shown before it (their references are gone and the decoder drops them); key frames
    that go back in time (joined recordings); packets that show two frames, are empty, or change
    the decoder's configuration.
    """
    records = packets.records
    if not packets.timed:
        return None
    starts: list[int] = []  # positions of the key frames so far
    shown: list[tuple[int, int, int]] = []  # pts, position, start
    for position, record in enumerate(records):
        if record.odd or record.pts is None or record.shown > 1:
            return None
        if record.restart:
            if starts and record.pts <= records[starts[-1]].pts:
                return None
            starts.append(position)
        if not starts:
            return None
        if record.shown:
            back = 1 if record.pts >= records[starts[-1]].pts else 2
            if back > len(starts) or record.pts < records[starts[-back]].pts:
                return None
            shown.append((record.pts, position, starts[-back]))
    if not shown:
        return None
    shown.sort()
    pts, position, start = np.asarray(shown, np.int64).T
    if np.any(np.diff(pts) == 0):
        return None
    return Timeline(pts, position, start, records[position[-1]].duration)


def seconds(pts: np.ndarray, last_duration: int, time_base: float) -> tuple[np.ndarray, float]:
    """(times, duration): float64 `[num_frames]` beginning at 0, and the end of the last frame.

    A last frame of unknown length is as long as the median frame.
    """
    times = (pts - pts[0]) * time_base
    last = last_duration * time_base
    if last <= 0 and len(pts) > 1:
        last = statistics.median(np.diff(times).tolist())
    return times, float(times[-1] + last)


def ranges(timeline: Timeline, indices: np.ndarray) -> list[tuple[int, int]]:
    """Packet ranges (start, stop) to decode for display `indices`: one per key frame involved."""
    found: list[tuple[int, int]] = []
    wanted = zip(timeline.start[indices].tolist(), timeline.position[indices].tolist(), strict=True)
    for start, position in sorted(wanted):
        if found and start < found[-1][1]:  # runs on from the group before: no second start
            found[-1] = (found[-1][0], max(found[-1][1], position + 1))
        else:
            found.append((start, position + 1))
    return found
