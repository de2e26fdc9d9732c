"""H.264 packets: how many pictures they show, and whether out of decode order.

A packet is mostly one picture, but it may hold a field of one (camcorders) or none at all (an end
of sequence, parameter sets alone). The bits read here are in ITU-T H.264 (7.3.2.1, 7.3.2.2, 7.3.3).
"""

from collections.abc import Iterator

from data_pipelines.reading.nal_units import HEADER_BYTES, Bits, Coded, nal_units

_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


class H264Slices:
    """Reads the packets of one H.264 stream in decode order."""

    def __init__(self, extradata: bytes):
        self._extradata = extradata
        self._sets: dict[int, dict[str, int]] = {}  # sequence parameter sets
        self._set_of: dict[int, int] = {}  # picture parameter set -> sequence parameter set
        self._last_order: int | None = None
        for unit in _avcc_units(extradata):
            self._learn(unit)

    def read(self, payload: bytes) -> Coded:
        """What the next packet holds."""
        frames = fields = slices = 0
        reordered = False
        for unit in nal_units(payload, self._extradata, 4):
            kind = unit[0] & 31
            if kind in (7, 8):
                self._learn(unit)
            elif kind in (1, 2, 5) and len(unit) > 1:
                slices += 1
                if unit[1] & 128:  # its first macroblock is the picture's first
                    is_field, late = self._picture(unit[:HEADER_BYTES], kind == 5)
                    frames, fields = frames + (not is_field), fields + is_field
                    reordered |= late
        if fields % 2:
            return Coded(None, reordered)
        return Coded(max(frames + fields // 2, 1) if slices else 0, reordered)

    def _learn(self, unit: bytes) -> None:
        bits = Bits(unit[1:])
        try:
            if unit[0] & 31 == 7:
                self._sets.update(_h264_sequence(bits))
            else:
                number = bits.ue()
                self._set_of[number] = bits.ue()
        except ValueError:  # damaged: the decoder will say so
            pass

    def _picture(self, unit: bytes, idr: bool) -> tuple[bool, bool]:
        """(is a field, is shown before an earlier one)."""
        bits = Bits(unit[1:])
        try:
            bits.ue(), bits.ue()  # first macroblock, slice type
            known = self._sets[self._set_of[bits.ue()]]
            bits.u(2 * known["planes"] + known["frame_num_bits"])
            is_field = not known["frames_only"] and bits.u(1) == 1
            bits.u(is_field)  # top or bottom
            if idr:
                bits.ue()
            if known["order_type"] == 2:  # decode order is display order
                return is_field, False
            if known["order_type"] == 1:
                return is_field, True
            late = False
            order, wrap = bits.u(known["order_bits"]), 1 << known["order_bits"]
            if not idr and self._last_order is not None:
                late = (order - self._last_order) % wrap >= wrap // 2
            self._last_order = order
            return is_field, late
        except (ValueError, LookupError):
            return False, True


def _avcc_units(extradata: bytes) -> Iterator[bytes]:
    """Parameter sets in the decoder configuration of an H.264 stream."""
    if extradata[:1] != b"\1":
        yield from nal_units(extradata, b"", 4)
        return
    at = 5
    for mask in (31, 255):  # sequence, then picture parameter sets
        count = extradata[at] & mask if at < len(extradata) else 0
        at += 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if size:
                yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


def _h264_sequence(bits: Bits) -> dict[int, dict[str, int]]:
    profile = bits.u(8)
    bits.u(16)
    number, planes = bits.ue(), 0
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        planes = bits.u(1) if chroma == 3 else 0
        bits.ue(), bits.ue(), bits.u(1)  # depths, lossless
        if bits.u(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits, order_type, order_bits = bits.ue() + 4, bits.ue(), 0
    if order_type == 0:
        order_bits = bits.ue() + 4
    elif order_type == 1:
        bits.u(1), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue(), bits.u(1), bits.ue(), bits.ue()  # references, gaps, width, height
    return {
        number: {
            "planes": planes,
            "frame_num_bits": frame_num_bits,
            "order_type": order_type,
            "order_bits": order_bits,
            "frames_only": bits.u(1),
        }
    }


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
