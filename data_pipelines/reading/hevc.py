"""HEVC packets: how many pictures they show, and whether out of decode order.

A packet is mostly one picture, but it may hold none (an end of sequence, parameter sets alone), or
one that decoders leave out. The bits read here are in ITU-T H.265 (7.3.2.2, 7.3.2.3, 7.3.6.1,
8.1.3).
"""

from collections.abc import Iterator

from data_pipelines.reading.nal_units import HEADER_BYTES, Bits, Coded, nal_units


class HevcSlices:
    """Reads the packets of one HEVC stream in decode order."""

    def __init__(self, extradata: bytes):
        self._extradata = extradata
        self._sets: dict[int, tuple[int, int]] = {}  # (bits of the order, colour planes apart)
        self._pictures: dict[int, tuple[int, int, int]] = {}  # (set, output flag, extra bits)
        self._last_order: int | None = None
        self._ended: bool | None = None  # the sequence before; None: there is none
        for unit in _hvcc_units(extradata):
            self._learn(unit)

    def read(self, payload: bytes) -> Coded:
        """What the next packet holds."""
        pictures = slices = hidden = 0
        reordered = spliced = ends = False
        for unit in nal_units(payload, self._extradata, 21):
            kind, layer = (unit[0] >> 1) & 63, (unit[0] & 1) << 5 | int.from_bytes(unit[1:2]) >> 3
            if layer:  # another view, alpha, ..
                continue
            if kind in (33, 34):
                self._learn(unit)
            elif kind in (36, 37):  # end of sequence, of bitstream
                ends = True
            elif kind < 32 and len(unit) > 2:
                spliced |= ends or self._cuts(unit, kind)
                slices += 1
                if unit[2] & 128:
                    shown, late = self._picture(unit[:HEADER_BYTES], kind)
                    pictures, hidden = pictures + shown, hidden + (not shown)
                    reordered |= late
        if slices:  # FFmpeg takes no notice of an end that has a packet of its own
            self._ended = ends
        return Coded(pictures if hidden or not slices else max(pictures, 1), reordered, spliced)

    def _cuts(self, unit: bytes, kind: int) -> bool:
        """Whether a slice begins a sequence that was joined to the one before."""
        before, self._ended = self._ended, False
        if before is None:
            return False
        clears = kind in (19, 20) and unit[2] & 64  # no_output_of_prior_pics_flag
        return bool(before or 16 <= kind <= 18 or clears)

    def _picture(self, unit: bytes, kind: int) -> tuple[bool, bool]:
        """(is shown, is shown before an earlier one)."""
        bits = Bits(unit[2:])
        try:
            bits.u(1 + (16 <= kind <= 23))
            set_number, output_flag, extra = self._pictures[bits.ue()]
            order_bits, planes = self._sets[set_number]
            bits.u(extra)
            bits.ue()  # slice type
            shown = not output_flag or bits.u(1) == 1
            if kind in (19, 20):  # IDR
                self._last_order = 0
                return shown, False
            bits.u(2 * planes)
            order, wrap, last = bits.u(order_bits), 1 << order_bits, self._last_order
            self._last_order = order
            return shown, last is not None and (order - last) % wrap >= wrap // 2
        except (ValueError, LookupError):
            return True, True

    def _learn(self, unit: bytes) -> None:
        bits = Bits(unit[2:])
        try:
            if (unit[0] >> 1) & 63 == 33:
                self._sets.update(_hevc_sequence(bits))
            else:
                number, sequence = bits.ue(), bits.ue()
                bits.u(1)
                self._pictures[number] = sequence, bits.u(1), bits.u(3)
        except ValueError:  # damaged: the decoder will say so
            pass


def _hvcc_units(extradata: bytes) -> Iterator[bytes]:
    """Parameter sets in the decoder configuration of an HEVC stream."""
    if extradata[:1] != b"\1":
        yield from nal_units(extradata, b"", 21)
        return
    at = 23
    for _ in range(extradata[22] if len(extradata) > 22 else 0):
        count, at = int.from_bytes(extradata[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if size > 2 and (extradata[at + 2] >> 1) & 63 in (33, 34):
                yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


def _hevc_sequence(bits: Bits) -> dict[int, tuple[int, int]]:
    bits.u(4)
    layers = bits.u(3)
    bits.u(1 + 88 + 8)
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    bits.u(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
    number, chroma = bits.ue(), bits.ue()
    planes = bits.u(1) if chroma == 3 else 0
    bits.ue(), bits.ue()  # width, height
    if bits.u(1):
        for _ in range(4):
            bits.ue()
    bits.ue(), bits.ue()  # depths
    return {number: (bits.ue() + 4, planes)}
