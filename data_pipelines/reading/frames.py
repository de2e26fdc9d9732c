"""The frames of one stream by display index: as planned where possible, else all in order."""

from collections.abc import Iterator

import av
import numpy as np

from data_pipelines.reading.container import PYAV_ERRORS
from data_pipelines.reading.demux import Packets
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.time_limit import Deadline
from data_pipelines.reading.timeline import Timeline, build_timeline, ranges

KEPT_BYTES = 64 << 20
"""Frames decoded only to be counted are kept for reading while they fit in this much memory."""


class Frames:
    """Decodes the frames of one stream.

    Attributes:
      first: a decodable frame: what the size and the orientation of the pictures are taken from.
      pts: int64 `[num_frames]`, presentation times in units of the stream's time base.
      last_duration: of the last frame, in the same units; 0 where unknown.
      planned: whether the times are the packets'; else everything was decoded to find them.
      missing, corrupt: indices of frames that were, so far, replaced by a neighbour, or flagged by
        the decoder as damaged and patched up.
      rejected: packets that the decoder refused in one pass over the stream.
    """

    def __init__(self, name: str, stream, packets: Packets, strict: bool, deadline: Deadline):
        self._name, self._strict, self._deadline = name, strict, deadline
        self._context, self._packets = stream.codec_context, packets
        self._skips = self._context.codec.canonical_name == "h264"
        self.missing: set[int] = set()
        self.corrupt: set[int] = set()
        self._timeline: Timeline | None = None
        self._kept: list[av.VideoFrame] | None = None
        self.rejected = 0
        timeline = build_timeline(packets)
        first = None if timeline is None else self._first_frame(timeline)
        self.planned = first is not None
        if first is None:
            self.first, self.pts, self.last_duration = self._count(stream)
        else:
            self._timeline, self.first = timeline, first
            self.pts, self.last_duration = timeline.pts, timeline.last_duration

    def planned_frames(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """(index, frame) of the wanted frames, decoded from their key frames.

        What a decoder patches a damaged picture with depends on what it has seen before. So as soon
        as the file proves damaged, this ends with (-1, None), and the caller asks for `all_frames`:
        the same frames come out however they are asked for.

        Args:
          wanted: int64 `[n]`, ascending display indices without repeats.
        """
        index_of = dict(zip(self.pts[wanted].tolist(), wanted.tolist(), strict=True))
        positions = set(self._timeline.position[wanted].tolist())
        positions |= {p - 1 for p in positions if self._packets.records[p].half}  # both fields
        for start, stop in ranges(self._timeline, wanted):
            for frame in self._decode(start, stop, positions):
                if frame is None or frame.is_corrupt:
                    yield -1, None
                    return
                index = index_of.pop(frame.pts, None)
                if index is not None:
                    yield index, frame
        if index_of:
            yield -1, None

    def all_frames(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) of the wanted frames, decoded from the start of the stream.

        A missing frame is replaced by the nearest earlier one, or, where there is none, the first.

        Raises:
          VideoError: nothing can be decoded; in strict mode, at the end, if any frame up to the
            last wanted one is missing or damaged.
        """
        queue = wanted.tolist()[::-1]
        last, decoded, damaged = None, 0, 0
        for index, frame in self._indexed_frames():
            while queue and queue[-1] < index:
                self.missing.add(queue[-1])
                yield queue.pop(), last or frame
            if queue:
                last, decoded, damaged = frame, decoded + 1, damaged + frame.is_corrupt
            if queue and queue[-1] == index:
                yield queue.pop(), frame
            if not queue:
                break
        if queue and last is None:
            raise VideoError(self._name, "no decodable video frame")
        for index in reversed(queue):
            self.missing.add(index)
            yield index, last
        expected = int(wanted[-1]) + 1
        if self._strict and (decoded < expected or damaged):
            lost = expected - decoded
            reason = f"of its first {expected} frames, {lost} are missing and {damaged} damaged"
            raise VideoError(self._name, reason)

    def _indexed_frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """(display index, frame) of everything that can be decoded, in order."""
        if self._kept is not None:
            yield from enumerate(self._kept)
            return
        index_of = None
        if self._timeline is not None:
            index_of = {pts: i for i, pts in enumerate(self.pts.tolist())}
        count = rejected = 0
        for frame in self._decode(0, len(self._packets.records), None):
            if frame is None:
                rejected += 1
                self.rejected = max(self.rejected, rejected)
                continue
            index = count if index_of is None else index_of.get(frame.pts)
            count += 1
            if index is not None:
                if frame.is_corrupt:
                    self.corrupt.add(index)
                yield index, frame

    def _decode(
        self, start: int, stop: int, positions: set[int] | None
    ) -> Iterator[av.VideoFrame | None]:
        """Frames of packets start..stop-1 from a flushed decoder; None for each one it rejects.

        Decoders may reject packets without a picture, which then means nothing.

        Unless `positions` (packets whose frames are wanted) is None, other H.264 pictures are
        decoded only if they are references. H.264 marks those exactly (nal_ref_idc); HEVC does so
        per temporal layer only, and the other decoders here ignore the request.
        """
        context = self._context
        context.flush_buffers()
        for position, packet in enumerate(self._packets.read(start, stop), start):
            self._deadline.check()
            if not packet.size:
                continue  # "show the frame before once more" (Theora): no frame of its own
            skip = self._skips and positions is not None and position not in positions
            context.skip_frame = "NONREF" if skip else "DEFAULT"
            frames = self._frames_of(packet)
            if frames != [None] or self._packets.records[position].shown:
                yield from frames
        yield from self._frames_of(None)

    def _frames_of(self, packet: av.Packet | None) -> list[av.VideoFrame | None]:
        try:
            return self._context.decode(packet)
        except PYAV_ERRORS:
            return [None]

    def _first_frame(self, timeline: Timeline) -> av.VideoFrame | None:
        """The first decodable frame; None if it shows that the packets' times cannot be trusted.

        That is, if its time is none of theirs, or if the frames are reordered but the times are not
        (files made from AVI, whose times are those of decoding).
        """
        known = set(timeline.pts.tolist())
        for stop in (1, len(self._packets.records)):  # mostly, one packet is enough
            for frame in self._decode(0, stop, None):
                if frame is not None:
                    steps = np.diff(timeline.position)
                    records = (self._packets.records[i] for i in timeline.position)
                    reorders = self._context.has_b_frames and any(r.reordered for r in records)
                    unordered = reorders and len(steps) and np.all(steps > 0)
                    return frame if frame.pts in known and not unordered else None
        raise VideoError(self._name, "no decodable video frame")

    def _count(self, stream) -> tuple[av.VideoFrame, np.ndarray, int]:
        """Decode everything: (first frame, times int64 `[num_frames]`, last duration)."""
        kept, size, pts, first, last = [], 0, [], None, None
        for _, last in self._indexed_frames():
            first = first or last
            pts.append(last.pts)
            size += sum(plane.buffer_size for plane in last.planes)
            if size > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(last)
        if first is None:
            raise VideoError(self._name, "no decodable video frame")
        if self._strict and self.rejected:
            raise VideoError(self._name, f"{self.rejected} of its packets cannot be decoded")
        self._kept = kept
        if None not in pts and all(a < b for a, b in zip(pts, pts[1:], strict=False)):
            return first, np.asarray(pts, np.int64), last.duration
        rate = stream.average_rate or stream.guessed_rate or 25  # 25: FFmpeg's own for raw streams
        step = 1 / (rate * stream.time_base)
        return first, np.asarray([round(i * step) for i in range(len(pts))], np.int64), round(step)
