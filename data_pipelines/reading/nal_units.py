"""NAL units, which the packets of H.264 and HEVC consist of, and the bits of their headers."""

from collections.abc import Iterator
from typing import NamedTuple

HEADER_BYTES = 48
"""More than the first fields of a slice header ever fill."""


class Coded(NamedTuple):
    """What a packet holds.

    Attributes:
      shown: pictures that come out of it; None: it holds a field, half a picture, which comes out
        with the other half.
      reordered: it is shown before a picture that is decoded earlier, or the header does not tell.
      spliced: here the decoder drops pictures, earlier ones that wait to be shown or later ones
        whose references are gone.
    """

    shown: int | None
    reordered: bool
    spliced: bool = False


def nal_units(payload: bytes, extradata: bytes, size_byte: int) -> Iterator[bytes]:
    """NAL units of a packet, whether they are length-prefixed or separated by start codes.

    Args:
      payload: the packet.
      extradata: decoder configuration; it says how long the length prefixes are.
      size_byte: where: 4 for H.264, 21 for HEVC.
    """
    if extradata[:1] == b"\1" and len(extradata) > size_byte:
        width = (extradata[size_byte] & 3) + 1
        at = 0
        while at + width < len(payload):
            size = int.from_bytes(payload[at : at + width], "big")
            at += width
            if size:
                yield payload[at : at + size]
            at += size
        return
    at = payload.find(b"\0\0\1")
    while at >= 0:
        end = payload.find(b"\0\0\1", at + 3)
        unit = payload[at + 3 : end if end >= 0 else len(payload)]
        if unit:
            yield unit
        at = end


class Bits:
    """Reads a NAL unit bit by bit; ValueError at its end."""

    def __init__(self, unit: bytes):
        unit = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._value, self._left = int.from_bytes(unit, "big"), 8 * len(unit)

    def u(self, bits: int) -> int:
        """Unsigned integer of that many bits."""
        self._left -= bits
        if self._left < 0:
            raise ValueError("the header ends early")
        return (self._value >> self._left) & ((1 << bits) - 1)

    def ue(self) -> int:
        """Unsigned Exp-Golomb code."""
        rest = self._value & ((1 << self._left) - 1)
        zeros = self._left - rest.bit_length()
        self.u(zeros)
        return self.u(zeros + 1) - 1

    def se(self) -> int:
        """Signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)
