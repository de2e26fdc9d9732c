"""All packets of a video stream, in decode order.

Demuxing the whole stream costs a few milliseconds and answers, without decoding and without
seeking, which frame is shown when (`timeline.Timeline`), also for containers without an index.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from data_pipelines.reading.bitstream import PLANNED_CODECS, frames_shown, restarts
from data_pipelines.reading.container import PYAV_ERRORS, open_container, video_stream
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.h264 import H264Slices
from data_pipelines.reading.hevc import HevcSlices
from data_pipelines.reading.time_limit import Deadline

PLANNED_CONTAINERS = ("mov,", "matroska,", "flv", "mpegts", "jpeg_pipe")
"""Formats (FFmpeg's names begin so) that store presentation times; AVI has decode order alone."""

HELD_BYTES = 512 << 20
"""Streams larger than this keep no packets in memory: they are read again from the file."""


class Record(NamedTuple):
    """What the plan needs of a packet; times in units of the stream's time base."""

    pts: int | None
    dts: int | None
    duration: int
    restart: bool  # decoding may start here
    shown: int  # pictures that come out of it (edit lists discard some)
    half: bool  # a field, whose frame comes out with the next or previous packet's
    odd: bool  # empty, changes the decoder's configuration, or makes it drop pictures
    reordered: bool  # shown before a picture that is decoded earlier, as far as its header tells


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
        slices = {"h264": H264Slices, "hevc": HevcSlices}.get(self._codec)
        self._slices = None if slices is None else slices(self._extradata)
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
        if planned and self._slices is not None:
            shown, reordered, spliced = self._slices.read(payload)
        else:
            shown = frames_shown(self._codec, payload) if planned else 1
            reordered, spliced = True, False
        return Record(
            packet.pts,
            packet.dts,
            packet.duration or 0,
            planned and packet.is_keyframe and restarts(self._codec, payload, self._extradata),
            0 if packet.is_discard else 1 if shown is None else shown,
            shown is None,
            not payload or spliced or packet.has_sidedata("new_extradata"),
            reordered,
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
