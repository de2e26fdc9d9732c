"""The exact display order of a stream's frames from its packets, and where decoding has to start.

It is exact for constant and variable frame rates, edit lists (packets flagged "discard") and
offsets.
"""

import statistics
from typing import NamedTuple

import numpy as np

from data_pipelines.reading.demux import Packets

RUN_IN = 0.05
"""Seconds of silence that sound encoders put first, at most (2048 samples of AAC at 44.1 kHz)."""


class Timeline(NamedTuple):
    """Display order of the frames, all arrays int64 `[num_frames]`.

    Attributes:
      pts: presentation times, strictly increasing.
      position: the packet (in decode order) that holds the frame, or the second of its two fields.
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
    that go back in time (joined recordings); fields without the other one; packets that show two
    frames, are empty, change the decoder's configuration, or make it drop pictures (HEVC that was
    joined).
    """
    records = packets.records
    if not packets.timed:
        return None
    starts: list[int] = []  # positions of the key frames so far
    shown: list[tuple[int, int, int]] = []  # pts, position, start
    first_field = None  # of a frame whose second field is to come
    for position, record in enumerate(records):
        if record.odd or record.shown > 1:
            return None
        if first_field is not None:
            if not record.half or record.restart:
                return None
            if first_field.shown:
                shown[-1] = (shown[-1][0], position, shown[-1][2])
            first_field = None
            continue
        if record.pts is None:
            if record.shown or record.restart:
                return None
            continue
        first_field = record if record.half else None
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
    if not shown or first_field is not None:
        return None
    shown.sort()
    pts, position, start = np.asarray(shown, np.int64).T
    if np.any(np.diff(pts) == 0):
        return None
    last = records[position[-1]]
    return Timeline(pts, position, start, 0 if last.half else last.duration)


def seconds(
    pts: np.ndarray, last_duration: int, time_base: float, clock: float
) -> tuple[np.ndarray, float]:
    """(times, duration): float64 `[num_frames]` on a player's clock; the end of the last frame.

    A last frame of unknown length is as long as the median frame. If the picture starts after the
    sound, the part of a frame in between is its encoder's run-in, unless it is longer than one.

    Args:
      pts: int64 `[num_frames]`, in units of the time base.
      last_duration: of the last frame, in the same units; 0 where unknown.
      time_base: seconds.
      clock: time stamp at which the clock shows 0, in seconds.
    """
    times = (pts - pts[0]) * time_base
    frame = statistics.median(np.diff(times).tolist()) if len(pts) > 1 else 0.0
    last = last_duration * time_base
    last = last if last > 0 else frame
    late = float(pts[0] * time_base) - clock
    part = (late + 1e-6) % frame - 1e-6 if frame else 0.0
    times = times + late - (part if 0 < part <= RUN_IN else 0.0)
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
