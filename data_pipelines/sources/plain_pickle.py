"""Pickles of plain data, read without running anything that they name.

LaViLa's narrations and EPIC-KITCHENS' relevancies are published as pickles. They need lists,
tuples, dictionaries, texts, numbers and NumPy arrays; any other name in a file is refused, and for
NumPy's own there are stand-ins here that only look at bytes.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFERS = ("numpy.core.numeric", "numpy._core.numeric")


class _Dtype:
    """Stands for `numpy.dtype`."""

    def __init__(self, kind: str, *_):
        self.kind = kind

    def __setstate__(self, state: tuple) -> None:
        if self.kind[:1] not in "biufUS":
            raise pickle.UnpicklingError(f"arrays of kind {self.kind!r} are refused")
        order = state[1] if state[1] in "<>" else ""
        self.kind = order + self.kind

    def array(self, data: bytes | str, shape: tuple, fortran: bool) -> np.ndarray:
        """The array of some bytes (texts of Latin letters in Python 2's pickles)."""
        data = data.encode("latin-1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(data, np.dtype(self.kind)).reshape(
            shape, order="F" if fortran else "C"
        )


class _Array:
    """Stands for `numpy.ndarray`; `plain` makes an array of it."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.value = dtype.array(data, shape, fortran)


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    return dtype.array(data, (), False).item()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    return dtype.array(data, shape, order == "F")


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r} are refused")
    return text.encode("latin-1")


def _no_bytes(*given: Any) -> bytes:
    """How protocol 2 writes bytes of length 0."""
    if given:
        raise pickle.UnpicklingError("bytes() with arguments is refused")
    return b""


_STAND_INS = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    **{(module, "_reconstruct"): _Array for module in _ARRAYS},
    **{(module, "scalar"): _scalar for module in _ARRAYS},
    **{(module, "_frombuffer"): _from_buffer for module in _BUFFERS},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}; nothing of it was run")
        return stand_in


def load_plain(path: str, data: bytes) -> Any:
    """What a pickle holds; arrays as arrays if they are all of it.

    Args:
      path: for messages.
      data: the file's content.

    Raises:
      ValueError: it is no pickle, or of more than plain data and arrays.
    """
    try:
        value = _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:  # damaged pickles raise almost anything
        raise ValueError(
            f"{path} is no pickle of plain lists and arrays ({error}); save it as .jsonl or .npy"
        ) from error
    return value.value if isinstance(value, _Array) else value
