"""Weight files of any common kind -> named numpy arrays. Needs no torch and runs no pickle code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fluxjax.weight_files.errors import WeightsError
from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.npz_files import read_npz
from fluxjax.weight_files.safetensors_files import read_safetensors, write_safetensors
from fluxjax.weight_files.shards import file_in, read_shards, shards_of
from fluxjax.weight_files.state_dicts import find_state_dict
from fluxjax.weight_files.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from fluxjax.weight_files.unread_kinds import told_by_beginning, told_by_entries, unknown
from fluxjax.weight_files.zip_archive import ZipArchive

__all__ = ["WeightsError", "find_state_dict", "load_tree", "read_weights", "write_safetensors"]


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads weights: parameter name -> array, as the model's state dict has them.

    The file's content decides how it is read: torch zip and legacy checkpoints (.pth, .pt, .bin),
    TorchScript archives, safetensors, or .npz. Weights in several files are read by their index
    (`*.index.json`), by any one of them, or by their folder. Of a training checkpoint the state
    dict is found and the rest left out (see `find_state_dict`). bfloat16 and float8 come as
    ml_dtypes; tied tensors of a torch file come as one and the same array.

    Raises WeightsError if the file is damaged, refers to code, or holds no weights; OSError if it
    cannot be opened.
    """
    try:
        return find_state_dict(load_tree(path))
    except WeightsError as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None


def load_tree(path: str | os.PathLike) -> object:
    """Reads what a weight file, or several that belong together, hold, as plain nested data.

    Tensors of torch files are `TensorRef`s, whose bytes are read by `.array()`; those of other
    files are arrays. Objects of `argparse.Namespace` are `Record`s. Raises like `read_weights`.
    """
    path = Path(path)
    if path.is_dir():
        path = file_in(path)
    shards = shards_of(path)
    return _load_file(path) if shards is None else read_shards(shards, _load_shard)


def _load_shard(path: Path) -> object:
    try:
        return _load_file(path)
    except WeightsError as error:
        raise WeightsError(f"shard {path.name}: {error}") from None


def _load_file(path: Path) -> object:
    data = FileBytes(path)
    if len(data) < 8:
        raise WeightsError(f"not a weight file: it has {len(data)} bytes")
    start = bytes(data[:24])
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        archive = ZipArchive(data)
        if any(name.split("/")[-1] == "data.pkl" for name in archive.names):
            return read_torch_zip(archive, len(data))
        if kind := told_by_entries(archive):
            raise WeightsError(f"this is {kind}")
        return read_npz(archive)
    magic = LEGACY_MAGIC.to_bytes(10, "little")
    if start[0] == 0x80 and magic in start:
        return read_torch_legacy(data)
    kind = None if start[8:9] == b"{" else told_by_beginning(start)
    if kind is not None:
        raise WeightsError(f"this is {kind}")
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors(data)
    if start[0] == 0x80:
        raise WeightsError("refused: a bare pickle, not a torch file; save it with torch.save")
    raise WeightsError(unknown(start))
