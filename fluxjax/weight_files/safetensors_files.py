"""Safetensors files: strict reading, and writing that never leaves half a file.

Format: https://github.com/huggingface/safetensors#format (uint64 header length, JSON, data).
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.tensors import decode_shaped, is_shape

_MAX_HEADER = 100 * 10**6  # bytes; the limit of the safetensors library
_ALIGNMENT = 8

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read_safetensors(data: FileBytes) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file, by name; bfloat16 and float8 as ml_dtypes.

    As the format demands: unique names, tensors that fill the buffer without gap or overlap.
    Raises WeightsError otherwise.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _MAX_HEADER):
        raise WeightsError(f"damaged safetensors file: a header of {length} bytes does not fit")
    header = _json_header(bytes(data[8 : 8 + length]))
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(text) is not str for text in metadata.values()):
        raise WeightsError("damaged safetensors file: its metadata are not names to texts")
    start, size = 8 + length, len(data) - 8 - length
    tensors = {name: _safetensors_entry(name, entry) for name, entry in header.items()}
    position = 0
    for name, (_, _, begin, end) in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise WeightsError(
                f"damaged safetensors file: {shown(name)} begins at {begin}, expected {position}"
            )
        position = end
    if position != size:
        raise WeightsError(f"damaged safetensors file: {size} bytes of data, {position} described")
    return {
        name: decode_shaped(data[start + begin : start + end], dtype, shape)
        for name, (dtype, shape, begin, end) in tensors.items()
    }


def _json_header(raw: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise WeightsError(f"damaged safetensors file: header: {reason}") from None
    if type(header) is not dict:
        raise WeightsError("damaged safetensors file: its header is not a JSON object")
    return header


def _safetensors_entry(name: str, entry: object) -> tuple[np.dtype, tuple[int, ...], int, int]:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"damaged safetensors file: entry {shown(name)} is not a tensor")
    kind = entry["dtype"]
    dtype = _DTYPES.get(kind) if type(kind) is str else None
    if dtype is None:
        raise WeightsError(f"safetensors file: {shown(name)} has unknown dtype {shown(kind)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not is_shape(shape) or not _is_range(offsets):
        raise WeightsError(f"damaged safetensors file: shape or offsets of {shown(name)}")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"damaged safetensors file: {shown(name)} has {end - begin} bytes for shape "
            f"{tuple(shape)} of {kind}"
        )
    return dtype, tuple(shape), begin, end


def _is_range(offsets: object) -> bool:
    return (
        type(offsets) is list
        and len(offsets) == 2
        and all(type(offset) is int for offset in offsets)
        and 0 <= offsets[0] <= offsets[1]
    )


def write_safetensors(
    path: str | os.PathLike,
    mapping: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named arrays (numpy or JAX) as one safetensors file, whole or not at all.

    The file is written beside `path` and moved over it once it is on disk, so a reader sees the
    old file or the new one. The widest types come first and names are sorted: equal content gives
    equal bytes.

    Raises WeightsError for a type that the format lacks, or names and metadata that are not text.
    """
    arrays = {name: np.asarray(value) for name, value in mapping.items()}
    for name, array in arrays.items():
        if type(name) is not str or name == "__metadata__":
            raise WeightsError(f"cannot write an array named {shown(name)}: choose another name")
        if array.dtype.newbyteorder("=") not in _NAMES:
            raise WeightsError(
                f"cannot write {shown(name)} of type {array.dtype}; safetensors has "
                + ", ".join(str(dtype) for dtype in _NAMES)
            )
    metadata = dict(metadata or {})
    if not all(type(text) is str for pair in metadata.items() for text in pair):
        raise WeightsError("cannot write metadata: names and values must be text")
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header = _header(order, arrays, metadata)
    target = Path(path)
    # Its own name per process and thread; opened with "x", so that no other file is overwritten.
    part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    with open(part, "xb") as file:
        try:
            file.write(header)
            for name in order:
                file.write(_little_endian(arrays[name]))
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            os.unlink(part)
            raise


def _header(order: list[str], arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for name in order:
        array = arrays[name]
        entries[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("=")],
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)  # so that the data start aligned
    return len(text).to_bytes(8, "little") + text


def _little_endian(array: np.ndarray) -> memoryview:
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    units = flat.view(f"u{array.dtype.itemsize}")
    return units.astype(units.dtype.newbyteorder("<"), copy=False).view(np.uint8).data
