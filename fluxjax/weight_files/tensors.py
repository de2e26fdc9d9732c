"""Tensors of a torch file before their bytes are read, and the buffers that they are views of."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown

_MAX_DIMS = 32
_MAX_ELEMENTS = 2**40
# Views may overlap (a fused qkv and its parts) or repeat a row, so tensors may exceed the file.
_COPIES = 4
_COPIES_ALLOWANCE = 64 * 2**20  # bytes

DTYPES = {  # torch's name -> numpy's type
    "float64": np.dtype(np.float64),
    "double": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "half": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype(np.int64),
    "long": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "short": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}
STORAGE_DTYPES = {  # class name -> type; None: bytes, typed by each tensor
    "DoubleStorage": DTYPES["float64"],
    "FloatStorage": DTYPES["float32"],
    "HalfStorage": DTYPES["float16"],
    "BFloat16Storage": DTYPES["bfloat16"],
    "LongStorage": DTYPES["int64"],
    "IntStorage": DTYPES["int32"],
    "ShortStorage": DTYPES["int16"],
    "CharStorage": DTYPES["int8"],
    "ByteStorage": DTYPES["uint8"],
    "BoolStorage": DTYPES["bool"],
    "UntypedStorage": None,
}


def decode(raw: np.ndarray, dtype: np.dtype, swapped: bool = False) -> np.ndarray:
    """Unsigned integers that hold the little-endian bits of `dtype` -> that type, a view if it can.

    `swapped`: the file is big-endian. A bool is made 0 or 1 from any byte.
    """
    if swapped != (sys.byteorder == "big"):
        raw = raw.byteswap()
    return raw != 0 if dtype == np.bool_ else raw.view(dtype)


def decode_shaped(
    content: memoryview, dtype: np.dtype, shape: Sequence[int], swapped: bool = False
) -> np.ndarray:
    """Bytes that exactly fill `shape`, row by row -> a writable array; `content` is used up."""
    if 0 in shape:
        return np.empty(shape, dtype)
    raw = np.frombuffer(content, f"u{dtype.itemsize}").reshape(shape)
    if not raw.flags.writeable or not raw.flags.aligned:
        raw = raw.copy()
    return decode(raw, dtype, swapped)


def is_shape(sizes: object) -> bool:
    """Whether this is a list or tuple of sizes that numpy can hold and no file would exceed."""
    if type(sizes) not in (list, tuple) or len(sizes) > _MAX_DIMS:
        return False
    if not all(type(size) is int and size >= 0 for size in sizes):
        return False
    return math.prod(max(size, 1) for size in sizes) <= _MAX_ELEMENTS


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A flat buffer that a torch pickle refers to: `numel` elements of `dtype` (bytes if None)."""

    key: str
    dtype: np.dtype | None
    numel: int

    @property
    def nbytes(self) -> int:
        """Declared size in bytes."""
        return self.numel * (self.dtype.itemsize if self.dtype else 1)


class Buffers:
    """The bytes of all storages of one file, read when a tensor asks for them.

    `fetch(key)` returns a storage's bytes; `file_size` bounds what all tensors together may take.
    """

    def __init__(
        self, fetch: Callable[[str], memoryview], file_size: int, swapped: bool = False
    ) -> None:
        self._fetch, self._swapped = fetch, swapped
        self._left = _COPIES * file_size + _COPIES_ALLOWANCE
        self._read: dict[str, memoryview] = {}
        self._made: dict[tuple, np.ndarray] = {}

    def tensor(self, ref: TensorRef) -> np.ndarray:
        """The array of `ref`, contiguous; tied tensors (equal views) are one and the same array."""
        view = (ref.dtype, ref.offset, ref.shape, ref.strides)
        key = (ref.storage.key, ref.storage.nbytes, *view)
        if key not in self._made:
            self._left -= math.prod(ref.shape) * ref.dtype.itemsize
            if self._left < 0:
                raise WeightsError("refused: tensors that together are far larger than their file")
            self._made[key] = self._view(ref)
        return self._made[key]

    def _view(self, ref: TensorRef) -> np.ndarray:
        buffer = self._bytes(ref.storage)
        if ref.fills_storage:  # the usual case, without a second copy in memory
            return decode_shaped(buffer, ref.dtype, ref.shape, self._swapped)
        if 0 in ref.shape:
            return np.empty(ref.shape, ref.dtype)
        size = ref.dtype.itemsize
        window = buffer[ref.offset * size : (ref.offset + ref.extent) * size]
        raw = np.frombuffer(window, f"u{size}")
        strides = [stride * size for stride in ref.strides]
        view = np.lib.stride_tricks.as_strided(raw, ref.shape, strides, writeable=False)
        return decode(np.array(view, order="C"), ref.dtype, self._swapped)

    def _bytes(self, storage: Storage) -> memoryview:
        if storage.key not in self._read:
            self._read[storage.key] = self._fetch(storage.key)
        buffer = self._read[storage.key]
        if len(buffer) != storage.nbytes:
            raise WeightsError(
                f"damaged file: storage {shown(storage.key)} has {len(buffer)} bytes, "
                f"{storage.nbytes} declared"
            )
        return buffer


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A strided view of a storage; offset and strides count elements of `dtype`."""

    buffers: Buffers
    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        shape, strides = self.shape, self.strides
        if type(shape) is not tuple or not is_shape(shape):
            raise WeightsError("refused tensor: its shape is not one that a file can hold")
        if not _counts(strides) or len(strides) != len(shape) or not _counts((self.offset,)):
            raise WeightsError(f"refused tensor of shape {shape}: strides or offset are no counts")
        end = (self.offset + self.extent) * self.dtype.itemsize
        if end > self.storage.nbytes:
            raise WeightsError(
                f"refused tensor: it reaches byte {end} of a storage of {self.storage.nbytes}"
            )

    @property
    def extent(self) -> int:
        """Elements from the first to the last that the view touches."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.strides, strict=True)
        return 1 + sum((size - 1) * stride for size, stride in steps)

    @property
    def fills_storage(self) -> bool:
        """Whether the tensor is its whole storage, row by row."""
        rows = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        contiguous = all(
            size == 1 or stride == row
            for size, stride, row in zip(self.shape, self.strides, rows, strict=True)
        )
        return contiguous and math.prod(self.shape) * self.dtype.itemsize == self.storage.nbytes

    def array(self) -> np.ndarray:
        """Reads the tensor; raises WeightsError if its bytes are missing or damaged."""
        return self.buffers.tensor(self)


def _counts(values: object) -> bool:
    return type(values) is tuple and all(type(v) is int and 0 <= v < 2**62 for v in values)
