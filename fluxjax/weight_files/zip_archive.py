"""Entries of a zip file as buffers: bounded, checksummed, and never written to disk."""

from __future__ import annotations

import struct
import zipfile
import zlib

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.file_bytes import FileBytes

# Weights hardly compress; what exceeds this ratio is zeros, or a bomb. The allowance is for zeros.
_MAX_RATIO = 20
_ZEROS_ALLOWANCE = 64 * 2**20  # bytes, over the whole archive

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, name length, extra length


class ZipArchive:
    """The entries of the zip file in `data`; deflated ones are inflated within `_MAX_RATIO`.

    Names are only keys: '../x' is an odd name, not a place.
    """

    def __init__(self, data: FileBytes):
        self._data = data
        self._allowance = _ZEROS_ALLOWANCE
        try:
            with zipfile.ZipFile(data.file) as archive:
                infos = archive.infolist()
        # What the standard library raises on damaged directories, besides BadZipFile.
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            ValueError,
            OSError,
            EOFError,
            OverflowError,
            struct.error,
            Warning,
        ) as error:
            raise WeightsError(f"damaged zip file: {error}") from None
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise WeightsError("refused zip file: two of its entries have the same name")

    @property
    def names(self) -> list[str]:
        """Names of all entries, in the order of the directory."""
        return list(self._infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def read(self, name: str) -> memoryview:
        """The bytes of one entry.

        Raises WeightsError if it is missing, encrypted, damaged, or inflates beyond the limit.
        """
        info = self._infos.get(name)
        if info is None:
            raise WeightsError(f"damaged zip file: entry {shown(name)} is missing")
        if info.flag_bits & 1:
            raise WeightsError(f"refused zip file: entry {shown(name)} is encrypted")
        packed = self._packed(info)
        if info.compress_type == zipfile.ZIP_STORED:
            content = packed
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            content = self._inflate(info, packed)
        else:
            raise WeightsError(
                f"refused zip file: entry {shown(name)} has compression {info.compress_type}; "
                "stored or deflated expected"
            )
        if len(content) != info.file_size:
            raise WeightsError(f"damaged zip file: entry {shown(name)} has a wrong size")
        # torch.serialization.set_crc32_options(False) writes 0 for "not computed".
        if info.CRC and zlib.crc32(content) != info.CRC:
            raise WeightsError(f"damaged zip file: the checksum of entry {shown(name)} is wrong")
        return content

    def _packed(self, info: zipfile.ZipInfo) -> memoryview:
        start = info.header_offset
        if not 0 <= start <= len(self._data) - _LOCAL_HEADER.size:
            raise WeightsError(f"damaged zip file: entry {shown(info.filename)} is out of bounds")
        header = self._data[start : start + _LOCAL_HEADER.size]
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start += _LOCAL_HEADER.size + name_length + extra_length
        if signature != b"PK\x03\x04" or start + info.compress_size > len(self._data):
            raise WeightsError(f"damaged zip file: entry {shown(info.filename)} is out of bounds")
        return self._data[start : start + info.compress_size]

    def _inflate(self, info: zipfile.ZipInfo, packed: memoryview) -> memoryview:
        self._allowance -= max(0, info.file_size - _MAX_RATIO * info.compress_size)
        if self._allowance < 0:
            raise WeightsError(
                f"refused zip file: entry {shown(info.filename)} inflates from "
                f"{info.compress_size} to {info.file_size} bytes, as zip bombs do"
            )
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than declared shows a lie about the size without following it.
            return memoryview(inflater.decompress(packed, info.file_size + 1))
        except zlib.error as error:
            raise WeightsError(f"damaged zip file: entry {shown(info.filename)}: {error}") from None
