"""H.264 written bit by bit (raw macroblocks), for streams that no encoder at hand makes: fields.

A frame holds two fields, each of one grey: the even rows show 16 + 4 n, the odd ones 17 + 4 n,
where n is the number of the frame. Field pictures may come in a packet each, or both in one.
"""

import fractions
import io
import pathlib
from collections.abc import Sequence

import av
import numpy as np

SIDE = 32  # pixels of a frame
START = b"\0\0\0\1"
END_OF_SEQUENCE = START + b"\x0a"
FILLER = START + b"\x0c\xff\xff\x80"


class _Writer:
    def __init__(self):
        self._bits = ""

    def u(self, value: int, bits: int = 1) -> None:
        self._bits += f"{value:0{bits}b}"

    def ue(self, *values: int) -> None:
        for value in values:
            code = f"{value + 1:b}"
            self._bits += "0" * (len(code) - 1) + code

    def align(self) -> None:
        self._bits += "0" * (-len(self._bits) % 8)

    def raw(self, data: bytes) -> None:
        self._bits += "".join(f"{byte:08b}" for byte in data)

    def unit(self, header: int) -> bytes:
        """A NAL unit with its start code."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big")
        for low in range(4):  # emulation prevention
            data = data.replace(bytes([0, 0, low]), bytes([0, 0, 3, low]))
        return START + bytes([header]) + data


def parameter_sets() -> bytes:
    """Main profile, fields allowed, orders of 8 bits."""
    sequence = _Writer()
    sequence.raw(bytes([77, 0, 30]))
    sequence.ue(0, 0, 0, 4, 1)  # number, frame numbers of 4 bits, order of type 0, one reference
    sequence.u(0)
    sequence.ue(SIDE // 16 - 1, SIDE // 32 - 1)
    sequence.u(0b001_0_0, 5)  # fields allowed, not adaptive, direct 8x8; uncropped, no VUI
    picture = _Writer()
    picture.ue(0, 0)
    picture.u(0, 2)
    picture.ue(0, 0, 0)
    picture.u(0, 3)
    picture.ue(0, 0, 0)
    picture.u(0b100, 3)  # the slices say whether they are deblocked
    return sequence.unit(0x67) + picture.unit(0x68)


def coded(frame: int, *, field: int | None, key: bool, skipped: bool = False) -> bytes:
    """One picture: a field (0: even rows, 1: odd ones) or, where None, the whole frame.

    `skipped` fields repeat the field that was decoded before.
    """
    out = _Writer()
    idr = key and field in (0, None)  # the second field of a key frame is none itself
    out.ue(0, 5 if skipped else 7, 0)
    out.u(0 if key else frame % 12, 4)
    out.u(int(field is not None))
    if field is not None:
        out.u(field)
    if idr:
        out.ue(frame % 7)
    out.u((0 if key else 2 * (frame % 12)) + (field or 0), 8)
    if skipped:
        out.u(0, 2)
    out.u(0, 2 if idr else 1)  # reference marking
    out.ue(0, 1)  # quantiser, not deblocked
    macroblocks = SIDE * SIDE // 256 // (1 if field is None else 2)
    if skipped:
        out.ue(macroblocks)
        return out.unit(0x41)
    for _ in range(macroblocks):
        out.ue(25)
        out.align()
        even, odd = 16 + 4 * frame, 17 + 4 * frame
        rows = [even, odd] * 8 if field is None else [odd if field else even] * 16
        out.raw(b"".join(bytes([grey]) * 16 for grey in rows) + bytes([128]) * 128)
    return out.unit(0x65 if idr else 0x61)


def field_packets(frames: int = 30, together: Sequence[int] = (), skipped: bool = False):
    """Packets of a field each; those of the frames `together` hold both, one key frame in 12.

    Odd rows of `skipped` streams repeat the even ones.
    """
    for frame in range(frames):
        key = frame % 12 == 0
        head = parameter_sets() if key else b""
        even = coded(frame, field=0, key=key)
        odd = coded(frame, field=1, key=key, skipped=skipped)
        if frame in together:
            yield 2 * frame, head + even + odd, key
        else:
            yield 2 * frame, head + even, key
            yield 2 * frame + 1, odd, False


def write_packets(path: pathlib.Path, packets) -> pathlib.Path:
    """Muxes (time in 1/50 s, payload, is a key frame)."""
    head = parameter_sets() + coded(0, field=None, key=True)
    with av.open(io.BytesIO(head), format="h264") as raw, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(raw.streams.video[0])
        stream.time_base = fractions.Fraction(1, 50)
        for time, payload, key in packets:
            packet = av.Packet(payload)
            packet.pts = packet.dts = time
            packet.time_base, packet.duration = fractions.Fraction(1, 50), 1
            packet.is_keyframe, packet.stream = key, stream
            out.mux(packet)
    return path


def luma(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [SIDE, SIDE]."""
    return np.frombuffer(frame.planes[0], np.uint8).reshape(SIDE, -1)[:, :SIDE]
