"""Reads what torch.save and torch.jit.save write, without torch and without running anything.

Three layouts (torch/serialization.py, torch/csrc/jit/serialization):
  zip          `<root>/data.pkl`, `<root>/data/<key>` per storage, `<root>/byteorder`; torch >= 1.6
  TorchScript  the same plus `<root>/constants.pkl` and code; the pickle is a tree of modules
  legacy       five pickles (magic, protocol, machine, object, storage keys), then the storages
"""

from __future__ import annotations

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.inert_pickle import load_pickle
from fluxjax.weight_files.pickle_machine import Record
from fluxjax.weight_files.tensors import Buffers, Storage, TensorRef
from fluxjax.weight_files.torch_globals import storage_from_id, torch_globals
from fluxjax.weight_files.zip_archive import ZipArchive

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_MODULE_DEPTH = 64
_MAX_MODULES = 100_000


def read_torch_zip(archive: ZipArchive, file_size: int) -> object:
    """The saved object of a zip checkpoint; tensors are `TensorRef`s, read by `.array()`.

    A TorchScript module becomes its state dict. Raises WeightsError.
    """
    pickles = [name for name in archive.names if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or pickles[0].count("/") > 1:
        raise WeightsError(f"not a torch zip file: {len(pickles)} entries data.pkl, one expected")
    root = pickles[0].removesuffix("data.pkl")
    order = "little"
    if f"{root}byteorder" in archive:
        order = bytes(archive.read(f"{root}byteorder")).decode("ascii", "replace")
    if order not in ("little", "big"):
        raise WeightsError(f"damaged torch file: byte order {shown(order)}; little or big expected")
    script = f"{root}constants.pkl" in archive
    buffers = Buffers(lambda key: archive.read(f"{root}data/{key}"), file_size, order == "big")
    tree, _ = load_pickle(
        archive.read(pickles[0]), 0, torch_globals(buffers, script), storage_from_id
    )
    if script and isinstance(tree, Record):
        return module_state(tree)
    return tree


def read_torch_legacy(data: FileBytes) -> object:
    """The saved object of a checkpoint from before torch 1.6 (or with the old layout asked for).

    Tensors are `TensorRef`s, read by `.array()`. Raises WeightsError.
    """
    contents: dict[str, tuple[int, int]] = {}  # where a storage's bytes are
    storages: dict[str, Storage] = {}

    def persistent_load(identifier: object) -> Storage:
        storage = storage_from_id(identifier)
        first = storages.setdefault(storage.key, storage)
        if storage.nbytes != first.nbytes or storage.dtype != first.dtype:
            raise WeightsError(f"damaged torch file: storage {shown(storage.key)} declared twice")
        return first

    def fetch(key: str) -> memoryview:
        if key not in contents:
            raise WeightsError(f"damaged torch file: storage {shown(key)} is missing")
        start, end = contents[key]
        return data[start:end]

    find = torch_globals(Buffers(fetch, len(data)), script=False)
    position, values = 0, []
    for _ in range(5):
        value, position = load_pickle(data, position, find, persistent_load)
        values.append(value)
    magic, protocol, _, tree, keys = values
    if type(magic) is not int or magic != LEGACY_MAGIC:
        raise WeightsError("not a torch file: it is some other pickle")
    if type(protocol) is not int or protocol != _LEGACY_PROTOCOL:
        raise WeightsError(f"torch file of protocol {shown(protocol)}; 1001 is read")
    if type(keys) is not list:
        raise WeightsError("damaged torch file: no list of storage keys")
    contents.update(_legacy_storages(data, position, keys, storages))
    return tree


def _legacy_storages(
    data: FileBytes, position: int, keys: list[object], storages: dict[str, Storage]
) -> dict[str, tuple[int, int]]:
    """Finds each storage in the tail of a legacy file: int64 element count, little-endian data."""
    contents = {}
    for key in keys:
        storage = storages.get(key) if type(key) is str else None
        if storage is None or key in contents:
            raise WeightsError(f"damaged torch file: unknown storage key {shown(key)}")
        count = int.from_bytes(data[position : position + 8], "little")
        start, position = position + 8, position + 8 + storage.nbytes
        if count != storage.numel or position > len(data):
            raise WeightsError(
                f"truncated torch file: storage {shown(key)} should hold {storage.numel} elements"
            )
        contents[key] = (start, position)
    return contents


def module_state(module: Record) -> dict[str, TensorRef]:
    """A TorchScript module tree -> dotted names to tensors, as its `state_dict()` would give.

    Plain tensor attributes, which only the code tells from parameters and buffers, come along.
    """
    state: dict[str, TensorRef] = {}
    visited = 0

    def walk(record: Record, prefix: str, depth: int) -> None:
        nonlocal visited
        visited += 1
        if depth > _MAX_MODULE_DEPTH or visited > _MAX_MODULES:
            raise WeightsError("refused TorchScript file: its modules nest without end")
        for name, value in record.fields.items():
            if isinstance(value, TensorRef):
                state[prefix + name] = value
            elif isinstance(value, Record):
                walk(value, f"{prefix}{name}.", depth + 1)

    walk(module, "", 0)
    return state
