"""The closed table of names that a torch checkpoint may mention, and what stands for them.

It follows what `torch.load(weights_only=True)` permits, less what holds no weights, plus
`argparse.Namespace` and numpy scalars, which training scripts like to save beside the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.pickle_machine import Global, Record, checked_key
from fluxjax.weight_files.tensors import DTYPES, STORAGE_DTYPES, Buffers, Storage, TensorRef

_NUMPY_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
# Functions of TorchScript's pickles, which say of what type a container is: its content suffices.
_TORCHSCRIPT_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def torch_globals(buffers: Buffers, script: bool) -> Callable[[str, str], Global | None]:
    """The look-up of one file's names; None for names that are refused.

    Tensors are built on `buffers`. `script` adds the module classes of a TorchScript archive.
    """
    table = _table(buffers)

    def find(module: str, name: str) -> Global | None:
        full = f"{module}.{name}"
        if full in table:
            return table[full]
        if script and (module == "__torch__" or module.startswith("__torch__.")):
            return Global(full, record=True)
        if script and module == "torch.jit._pickle" and name in _TORCHSCRIPT_LISTS:
            return Global(full, call=lambda args: _arguments(full, args, list)[0])
        if script and full == "torch.jit._pickle.restore_type_tag":
            return Global(full, call=_untagged)
        return None

    return find


def storage_from_id(identifier: object) -> Storage:
    """A persistent id `('storage', class, key, device, numel[, None])` -> Storage."""
    parts = identifier if type(identifier) is tuple else ()
    if len(parts) == 6 and parts[5] is None:  # files before torch 1.6: no view of another storage
        parts = parts[:5]
    if len(parts) != 5 or type(parts[0]) is not str or parts[0] != "storage":
        raise WeightsError("refused persistent id: only storages are known")
    _, kind, key, device, numel = parts
    if not isinstance(kind, Global) or not kind.name.endswith("Storage"):
        raise WeightsError("refused persistent id: it names no storage class")
    if type(key) is not str or type(device) is not str:
        raise WeightsError("refused persistent id: key and device of a storage must be text")
    if type(numel) is not int or not 0 <= numel < 2**62:
        raise WeightsError(f"refused storage {shown(key)}: {shown(numel)} elements")
    return Storage(key, kind.value, numel)


def _table(buffers: Buffers) -> dict[str, Global]:
    calls = {
        "collections.OrderedDict": _mapping,
        "collections.Counter": _mapping,
        "__builtin__.set": lambda args: list(_arguments("set", args, list)[0]),
        "builtins.set": lambda args: list(_arguments("set", args, list)[0]),
        "_codecs.encode": _latin1,  # how protocol 2 spells bytes
        "torch.Size": lambda args: _arguments("torch.Size", args, tuple)[0],
        "torch.device": lambda args: Record("torch.device"),
        "torch._utils._rebuild_tensor_v2": lambda args: _tensor(buffers, args),
        "torch._utils._rebuild_tensor_v3": lambda args: _tensor_of_dtype(buffers, args),
        "torch._utils._rebuild_parameter": _parameter,
        "numpy.dtype": _numpy_dtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
    }
    table = {name: Global(name, call=call) for name, call in calls.items()}
    for name, dtype in STORAGE_DTYPES.items():
        for module in ("torch", "torch.storage"):
            table[f"{module}.{name}"] = Global(f"{module}.{name}", value=dtype)
    for name, dtype in DTYPES.items():
        table[f"torch.{name}"] = Global(f"torch.{name}", value=dtype)
    table["argparse.Namespace"] = Global("argparse.Namespace", record=True)
    return table


def _arguments(name: str, arguments: tuple, *kinds: type) -> tuple:
    """The arguments of a call, which must have exactly these types."""
    if len(arguments) != len(kinds) or any(
        type(value) is not kind for value, kind in zip(arguments, kinds, strict=True)
    ):
        raise WeightsError(f"refused call of {name}: unexpected arguments")
    return arguments


def _untagged(arguments: tuple) -> list | dict:
    if len(arguments) != 2 or type(arguments[0]) not in (list, dict):
        raise WeightsError("refused call of restore_type_tag: a list or dictionary expected")
    return arguments[0]


def _mapping(arguments: tuple) -> dict:
    if not arguments:
        return {}
    content = arguments[0] if len(arguments) == 1 else None
    pairs = list(content.items()) if type(content) is dict else content
    if type(pairs) is not list or any(
        type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs
    ):
        raise WeightsError("refused call of a dictionary: its content is not keys and values")
    return {checked_key(key): value for key, value in pairs}


def _latin1(arguments: tuple) -> bytes:
    text, encoding = _arguments("_codecs.encode", arguments, str, str)
    if encoding not in ("latin1", "latin-1") or any(ord(letter) > 255 for letter in text):
        raise WeightsError("refused call of _codecs.encode: latin1 expected")
    return text.encode("latin-1")


def _tensor(buffers: Buffers, arguments: tuple) -> TensorRef:
    """`_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`."""
    if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
        raise WeightsError("refused tensor: unexpected arguments")
    storage, offset, shape, strides = arguments[:4]
    if storage.dtype is None:
        raise WeightsError("refused tensor: an untyped storage without a dtype")
    return TensorRef(buffers, storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(buffers: Buffers, arguments: tuple) -> TensorRef:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, meta])`."""
    if len(arguments) not in (7, 8) or not isinstance(arguments[0], Storage):
        raise WeightsError("refused tensor: unexpected arguments")
    storage, offset, shape, strides = arguments[:4]
    dtype = arguments[6].value if isinstance(arguments[6], Global) else None
    if dtype is None or storage.dtype is not None:
        raise WeightsError("refused tensor: an untyped storage and a torch dtype expected")
    return TensorRef(buffers, storage, dtype, offset, shape, strides)


def _parameter(arguments: tuple) -> TensorRef:
    if len(arguments) != 3 or not isinstance(arguments[0], TensorRef):
        raise WeightsError("refused parameter: it holds no tensor")
    return arguments[0]


class _NumpyType:
    """A plain numeric numpy dtype; BUILD tells its byte order after it was made."""

    __slots__ = ("dtype",)

    def __init__(self, code: str):
        self.dtype = np.dtype(code)

    def set_state(self, state: object) -> None:
        order = state[1] if type(state) is tuple and len(state) in (8, 9) else None
        if type(order) is not str or order not in ("<", ">", "|", "="):
            raise WeightsError("refused numpy dtype: its state is not that of a plain number")
        if any(state[2:5]):
            raise WeightsError("refused numpy dtype: it has fields")
        self.dtype = self.dtype.newbyteorder(order)


def _numpy_dtype(arguments: tuple) -> _NumpyType:
    code = arguments[0] if arguments and type(arguments[0]) is str else ""
    if len(arguments) > 3 or not _NUMPY_DTYPE.fullmatch(code):
        raise WeightsError(f"refused numpy dtype {shown(code)}: a plain number expected")
    return _NumpyType(code)


def _numpy_scalar(arguments: tuple) -> np.generic:
    kind, raw = _arguments("numpy scalar", arguments, _NumpyType, bytes)
    if len(raw) != kind.dtype.itemsize:
        raise WeightsError(f"damaged numpy scalar: {len(raw)} bytes for {kind.dtype}")
    return np.frombuffer(raw, kind.dtype)[0]
