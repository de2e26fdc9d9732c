"""Header bits: does a packet show a frame, and may decoding start at it?

Key-frame flags promise less than is needed here: FFmpeg also sets them where H.264 only begins to
recover, and may do so on AV1 key frames that are not shown yet. And a hidden reference frame of VP8
or VP9 is a packet like any other. The bits read here are in ITU-T H.264 (7.3.1, D.1.8), H.265
(7.3.1.2), RFC 6386 (9.1), the VP9 bitstream specification (6.2, Annex B) and the AV1 bitstream
specification (5.3, 5.9.2).
"""

from collections.abc import Iterator

from data_pipelines.reading.nal_units import nal_units

PLANNED_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mjpeg"})
"""Codecs of which one packet is one frame (or, visibly, none) and key frames can be verified."""


def frames_shown(codec: str, payload: bytes) -> int:
    """Number of pictures that come out of a packet: 0 for a hidden reference frame."""
    if codec == "vp8":
        return (payload[0] >> 4) & 1
    if codec == "vp9":
        return sum(_vp9_header(frame)[1] for frame in _vp9_frames(payload))
    if codec == "av1":
        return int(any(shown for _, shown in _av1_headers(payload)))
    return 1


def restarts(codec: str, payload: bytes, extradata: bytes) -> bool:
    """Whether a freshly flushed decoder, started at this packet, is exact from its picture on.

    `extradata` is the decoder configuration of the stream: it holds the size of the H.264 / HEVC
    length prefixes, or is in start-code format (or empty) where the packets are too.
    """
    match codec:
        case "h264":
            return _h264_restarts(payload, extradata)
        case "hevc":
            kinds = ((nal[0] >> 1) & 63 for nal in nal_units(payload, extradata, 21))
            return next((16 <= kind <= 21 for kind in kinds if kind < 32), False)  # first slice
        case "vp8":
            return not payload[0] & 1
        case "vp9":
            return _vp9_header(_vp9_frames(payload)[0])[0]
        case "av1":
            return _av1_restarts(payload)
        case "mjpeg":
            return True
    raise ValueError(f"no key-frame test for codec {codec!r}; known: {sorted(PLANNED_CODECS)}")


def _h264_restarts(payload: bytes, extradata: bytes) -> bool:
    """An IDR picture, or an intra picture whose recovery point is itself (open GOP)."""
    for nal in nal_units(payload, extradata, 4):
        kind = nal[0] & 31
        if kind == 5:
            return True
        if kind == 6 and _sei_recovers_at_once(nal[1:]):
            return True
        if 1 <= kind <= 4:
            return False
    return False


def _sei_recovers_at_once(sei: bytes) -> bool:
    """Recovery-point message (type 6) with recovery_frame_cnt 0, coded as a single 1 bit."""
    sei = sei.replace(b"\0\0\3", b"\0\0")  # emulation prevention
    at = 0
    while at + 2 < len(sei):
        kind_and_size = []
        for _ in range(2):
            value = 0
            while at < len(sei) and sei[at] == 255:
                value, at = value + 255, at + 1
            if at >= len(sei):
                return False
            kind_and_size.append(value + sei[at])
            at += 1
        kind, size = kind_and_size
        if kind == 6:
            return at < len(sei) and sei[at] >= 128
        at += size
    return False


def _vp9_frames(payload: bytes) -> list[bytes]:
    """Heads of the frames of a superframe; a plain frame is a list of one."""
    marker = payload[-1]
    if marker & 0xE0 != 0xC0:
        return [payload[:4]]
    count, width = (marker & 7) + 1, ((marker >> 3) & 3) + 1
    index = len(payload) - 2 - count * width
    if index < 0 or payload[index] != marker:
        return [payload[:4]]
    frames, at = [], 0
    for i in range(count):
        here = index + 1 + i * width
        size = int.from_bytes(payload[here : here + width], "little")
        if size:
            frames.append(payload[at : at + 4])
        at += size
    return frames or [payload[:4]]


def _vp9_header(frame: bytes) -> tuple[bool, bool]:
    """(is a key frame, shows a picture)."""
    bits = frame[0] << 8 | (frame[1] if len(frame) > 1 else 0)
    shift = 10 if (frame[0] >> 4) & 3 == 3 else 11  # profile 3 has one reserved bit more
    if (bits >> shift) & 1:  # show_existing_frame
        return False, True
    return not (bits >> (shift - 1)) & 1, bool((bits >> (shift - 2)) & 1)


def _av1_restarts(payload: bytes) -> bool:
    """A sequence header, then a key frame that is shown (a hidden one keeps older references)."""
    return next(_av1_headers(payload), (False, False))[0]


def _av1_headers(payload: bytes) -> Iterator[tuple[bool, bool]]:
    """(is a key frame that decoding may start at, shows a picture) of each frame of a packet."""
    at, has_sequence, is_still = 0, False, False
    while at < len(payload):
        kind, extended, sized = (
            (payload[at] >> 3) & 15,
            (payload[at] >> 2) & 1,
            (payload[at] >> 1) & 1,
        )
        at += 1 + extended
        size = len(payload) - at
        if sized:
            size, shift, more = 0, 0, True
            while more and at < len(payload):  # leb128
                size |= (payload[at] & 127) << shift
                more = payload[at] >= 128
                shift, at = shift + 7, at + 1
        if kind == 1 and at < len(payload):
            has_sequence = True
            is_still = bool(payload[at] & 8)  # reduced_still_picture_header
        elif kind in (3, 6) and at < len(payload):
            # show_existing_frame 1; or frame_type (0 is a key frame) in two bits, then show_frame
            bits = 1 if is_still else payload[at] >> 4
            yield has_sequence and bits == 1, bits >= 8 or bool(bits & 1)
        at += size
