"""Arrays of .npz files, read without pickle and without trusting a declared size."""

from __future__ import annotations

import math
import re

import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.tensors import decode_shaped, is_shape
from fluxjax.weight_files.zip_archive import ZipArchive

_NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,19}(?:, \d{1,19})*,?)?)\), \} *\n"
)
_NPY_NUMBER = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NPY_TEXT = re.compile(r"[<>|=]?[US][0-9]+")


def read_npz(archive: ZipArchive) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, by entry name without '.npy'. Text arrays are notes and left out.

    Raises WeightsError for objects (they would need pickle), records, and damaged entries.
    """
    arrays = {}
    for entry in archive.names:
        if not entry.endswith(".npy"):
            raise WeightsError(f"damaged .npz file: entry {shown(entry)} is not an array")
        array = _read_npy(archive.read(entry), entry)
        if array is not None:
            arrays[entry.removesuffix(".npy")] = array
    return arrays


def _read_npy(content: memoryview, entry: str) -> np.ndarray | None:
    """One .npy entry (numpy.lib.format) -> array; None if it holds text."""
    if bytes(content[:6]) != b"\x93NUMPY" or len(content) < 12 or content[6] not in (1, 2, 3):
        raise WeightsError(f"damaged .npz file: entry {shown(entry)} has no .npy header")
    width = 2 if content[6] == 1 else 4
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    header = bytes(content[8 + width : min(start, 4096)]).decode("latin-1")
    match = _NPY_HEADER.fullmatch(header)
    if match is None or start > len(content):
        raise WeightsError(f"refused .npz file: entry {shown(entry)} has header {shown(header)}")
    code, fortran, sizes = match.groups()
    if _NPY_TEXT.fullmatch(code):
        return None
    if not _NPY_NUMBER.fullmatch(code):
        raise WeightsError(
            f"refused .npz file: entry {shown(entry)} has type {code!r}; plain numbers expected "
            "(bfloat16 has no name in .npz: use .safetensors)"
        )
    dtype = np.dtype(code)
    shape = [int(size) for size in re.findall(r"\d+", sizes)]
    if not is_shape(shape):
        raise WeightsError(f"damaged .npz file: entry {shown(entry)} has shape {shown(sizes)}")
    size = math.prod(shape) * dtype.itemsize
    if len(content) - start != size:
        raise WeightsError(
            f"damaged .npz file: entry {shown(entry)} holds {len(content) - start} bytes, "
            f"its shape {tuple(shape)} needs {size}"
        )
    column_major = fortran == "True"
    order = shape[::-1] if column_major else shape
    swapped = dtype.byteorder == ">"
    array = decode_shaped(content[start:], dtype.newbyteorder("="), order, swapped)
    return array.T.copy() if column_major else array
