"""The sample descriptions of MP4: what FFmpeg hides of an encrypted track (ISO/IEC 14496-12)."""

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

ENCRYPTED = frozenset({b"encv", b"drmi"})
"""Sample descriptions of encrypted video: common encryption, and Apple's."""

_MAX_MOOV = 256 << 20  # bytes; larger ones are damage


def encrypted_tracks(source: str | os.PathLike | bytes) -> set[int]:
    """Ids of the video tracks whose samples are, all or some, encrypted.

    FFmpeg takes such tracks for what they were before encryption and decodes noise.

    Args:
      source: path of a file, or its content; one that is no MP4 has no such track.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
    with file:
        movie = _find_movie(file)
    return {
        _track_id(track)
        for kind, track in _boxes(movie)
        if kind == b"trak" and ENCRYPTED.intersection(_descriptions(track))
    }


def _find_movie(file: BinaryIO) -> bytes:
    """Payload of the box moov; empty if there is none."""
    if not re.fullmatch(rb"ftyp|styp|moov|mdat|free|wide|skip|pnot", file.read(8)[4:]):
        return b""
    end, at = file.seek(0, os.SEEK_END), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind, skip = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, skip = int.from_bytes(head[8:], "big"), 16
        size = size or end - at
        if size < skip:
            break
        if kind == b"moov":
            file.seek(at + skip)
            return file.read(min(size - skip, _MAX_MOOV))
        at += size
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, payload) of each box."""
    at = 0
    while at + 8 <= len(data):
        size, skip = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, skip = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or len(data) - at
        if size < skip:
            return
        yield data[at + 4 : at + 8], data[at + skip : at + size]
        at += size


def _child(data: bytes, *path: bytes) -> bytes:
    """Payload of the first box down a path; empty if there is none."""
    for kind in path:
        data = next((payload for found, payload in _boxes(data) if found == kind), b"")
    return data


def _track_id(track: bytes) -> int:
    header = _child(track, b"tkhd")
    at = 20 if header[:1] == b"\1" else 12  # version 1 has times of eight bytes
    return int.from_bytes(header[at : at + 4], "big")


def _descriptions(track: bytes) -> list[bytes]:
    """Types of the sample descriptions."""
    table = _child(track, b"mdia", b"minf", b"stbl", b"stsd")
    return [kind for kind, _ in _boxes(table[8:])]
