"""Weight files of any common kind -> named numpy arrays. Needs no torch and runs no pickle code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.npz_files import read_npz
from fluxjax.weight_files.safetensors_files import read_safetensors, write_safetensors
from fluxjax.weight_files.tensors import TensorRef
from fluxjax.weight_files.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip
from fluxjax.weight_files.zip_archive import ZipArchive

__all__ = ["WeightsError", "find_state_dict", "load_tree", "read_weights", "write_safetensors"]

# Where training scripts keep the model's state dict, in the order tried: DeepSpeed ('module'),
# DeiT and its heirs ('model'), Lightning and torchvision's examples ('state_dict').
WRAPPERS = ("module", "model", "state_dict", "model_state_dict", "model_ema")
_MAX_WRAPPERS = 2
_PARALLEL_PREFIX = "module."  # torch.nn.parallel.DistributedDataParallel


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the weights in a file: parameter name -> array, as the model's state dict has them.

    The file's content decides how it is read: torch zip and legacy checkpoints (.pth, .pt, .bin),
    TorchScript archives, safetensors, or .npz. Of a training checkpoint the state dict is found
    and the rest left out (see `find_state_dict`). bfloat16 and float8 come as ml_dtypes; tied
    tensors of a torch file come as one and the same array.

    Raises WeightsError if the file is damaged, refers to code, or holds no weights; OSError if it
    cannot be opened.
    """
    try:
        return find_state_dict(load_tree(path))
    except WeightsError as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None


def load_tree(path: str | os.PathLike) -> object:
    """Reads what a weight file holds, as plain nested data.

    Tensors of torch files are `TensorRef`s, whose bytes are read by `.array()`; those of other
    files are arrays. Objects of `argparse.Namespace` are `Record`s. Raises like `read_weights`.
    """
    data = FileBytes(path)
    if len(data) < 8:
        raise WeightsError(f"not a weight file: it has {len(data)} bytes")
    start = bytes(data[:24])
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        archive = ZipArchive(data)
        if any(name.split("/")[-1] == "data.pkl" for name in archive.names):
            return read_torch_zip(archive, len(data))
        return read_npz(archive)
    magic = LEGACY_MAGIC.to_bytes(10, "little")
    if start[0] == 0x80 and magic in start:
        return read_torch_legacy(data)
    if start[8:9] == b"{" or Path(path).suffix == ".safetensors":
        return read_safetensors(data)
    if start[0] == 0x80:
        raise WeightsError("refused: a bare pickle, not a torch file; save it with torch.save")
    raise WeightsError(
        f"not a weight file: it begins with {shown(start[:8])}; torch (.pth, .pt, .bin), "
        ".safetensors and .npz are read"
    )


def find_state_dict(tree: object) -> dict[str, np.ndarray]:
    """The named arrays of a checkpoint's model.

    Looks under 'module', 'model', 'state_dict', 'model_state_dict' and 'model_ema', in this order
    and up to two deep, for a mapping that holds tensors; else takes `tree` itself. Entries that
    are no tensors (epoch, arguments, ...) are left out. If every name starts with 'module.', as
    DistributedDataParallel has it, that prefix is cut once.

    Raises WeightsError with the keys that were seen if there are no tensors.
    """
    state = _search(tree, _MAX_WRAPPERS)
    if not state:
        raise WeightsError(
            f"no tensors found under {', '.join(WRAPPERS)} or at the top: {_seen(tree)}"
        )
    if all(name.startswith(_PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(_PARALLEL_PREFIX): value for name, value in state.items()}
    return {
        name: value.array() if isinstance(value, TensorRef) else value
        for name, value in state.items()
    }


def _search(tree: object, depth: int) -> dict[str, TensorRef | np.ndarray]:
    if not isinstance(tree, Mapping):
        return {}
    if depth:
        for wrapper in WRAPPERS:
            found = _search(tree.get(wrapper), depth - 1)
            if found:
                return found
    return {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, TensorRef | np.ndarray)
    }


def _seen(tree: object) -> str:
    if not isinstance(tree, Mapping):
        return f"the file holds a {type(tree).__name__}"
    keys = [shown(key, 40) for key in list(tree)[:20]]
    return f"the file has {len(tree)} keys: {', '.join(keys)}"
