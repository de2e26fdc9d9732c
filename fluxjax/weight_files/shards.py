"""Weights in several files: the index that names them, their folder, or one of them.

As transformers' `save_pretrained` writes them: `model-00001-of-00003.safetensors`, .. and
`model.safetensors.index.json` {"metadata": {"total_size": bytes}, "weight_map": {name: file}};
the same with `pytorch_model` and .bin.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.tensors import TensorRef

_INDEX_SUFFIX = ".index.json"
_MAX_INDEX = 100 * 10**6  # bytes
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[A-Za-z]+)")
# What a folder is read by, first found first, as transformers and open_clip name them.
_PREFERRED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz", _INDEX_SUFFIX)


@dataclasses.dataclass(frozen=True)
class Shards:
    """Files that together hold one state dict.

    Attributes:
      files: paths, in order.
      file_of: tensor name -> file name, as an index says; None without an index.
      total: bytes of all tensors, as an index says, or None.
    """

    files: tuple[Path, ...]
    file_of: Mapping[str, str] | None = None
    total: int | None = None


def file_in(folder: Path) -> Path:
    """The weight file, or the index, that a folder holds.

    Raises WeightsError if there is none or it is not clear which.
    """
    for name in _PREFERRED:
        if (folder / name).is_file():
            return folder / name
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(_SUFFIXES) and p.is_file())
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if shards and len(shards) == len(names):
        return folder / shards[0]
    if len(names) == 1:
        return folder / names[0]
    if any(p.suffix == ".distcp" for p in folder.iterdir()):
        raise WeightsError(
            "this is a distributed checkpoint of torch; make one file of it where torch is "
            "installed: torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
        )
    found = f"several: {', '.join(names[:10])}; pass one of them" if names else "no weight file"
    raise WeightsError(f"the folder holds {found}")


def shards_of(path: Path) -> Shards | None:
    """The shards that an index names, or that a shard's own name tells of; None for other files.

    Raises WeightsError on a damaged index, one that names files elsewhere, or missing shards.
    """
    if path.name.endswith(_INDEX_SUFFIX):
        return _indexed(path)
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    stem, _, count, suffix = match.groups()
    index = path.with_name(f"{stem}{suffix}{_INDEX_SUFFIX}")
    if index.is_file():
        return _indexed(index)
    names = [f"{stem}-{i:05}-of-{count}{suffix}" for i in range(1, int(count) + 1)]
    return Shards(_present(path.parent, names))


def _indexed(path: Path) -> Shards:
    if path.stat().st_size > _MAX_INDEX:
        raise WeightsError(f"refused index: it has {path.stat().st_size} bytes")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        file_of, metadata = index["weight_map"], index.get("metadata") or {}
        total = metadata.get("total_size")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"damaged index: {type(error).__name__}: {str(error)[:100]}") from None
    if type(file_of) is not dict or not file_of:
        raise WeightsError("damaged index: its weight_map is not names to files")
    for name in file_of.values():
        # A plain name beside the index, not a path; a link there is the owner's own business.
        if type(name) is not str or name in ("", ".", "..") or re.search(r"[/\\:\0]", name):
            raise WeightsError(f"refused index: {shown(name)} is not the name of a file beside it")
    if total is not None and (type(total) not in (int, float) or total != total // 1):
        raise WeightsError(f"damaged index: total_size is {shown(total)}")
    files = _present(path.parent, sorted(set(file_of.values())))
    return Shards(files, file_of, None if total is None else int(total))


def _present(folder: Path, names: list[str]) -> tuple[Path, ...]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise WeightsError(
            f"{len(missing)} of {len(names)} shards are missing: {', '.join(missing[:10])}{more}; "
            "fetch all of them into one folder"
        )
    return tuple(folder / name for name in names)


def read_shards(shards: Shards, read: Callable[[Path], object]) -> dict[str, object]:
    """The state dict that the shards hold together; `read` reads one file.

    Entries that are no tensors are left out.

    Raises WeightsError if a shard holds no state dict, a tensor is in two shards, or the index does
    not fit what the shards hold.
    """
    state: dict[str, object] = {}
    held: dict[str, str] = {}  # tensor -> file
    for path in shards.files:
        part = read(path)
        if not isinstance(part, dict) or not all(type(name) is str for name in part):
            raise WeightsError(f"shard {path.name} is not names to tensors")
        for name, value in part.items():
            if not isinstance(value, TensorRef | np.ndarray):
                continue
            if name in held:
                raise WeightsError(
                    f"tensor {shown(name)} is in two shards, {held[name]} and {path.name}"
                )
            state[name], held[name] = value, path.name
    if shards.file_of is not None:
        _check_index(shards.file_of, held)
    if shards.total is not None:
        sizes = _sizes(state)
        if shards.total not in sizes:
            raise WeightsError(
                f"the index tells of {shards.total} bytes of tensors, the shards hold {sizes[0]}; "
                "they are not of one model"
            )
    return state


def _check_index(file_of: Mapping[str, str], held: Mapping[str, str]) -> None:
    for name, file in file_of.items():
        if held.get(name) != file:
            raise WeightsError(
                f"the index has tensor {shown(name)} in {file}, it is in {held.get(name, 'none')}"
            )
    if extra := sorted(set(held) - set(file_of)):
        raise WeightsError(
            f"{len(extra)} tensors are in shards and not in the index, such as {shown(extra[0])} "
            f"in {held[extra[0]]}"
        )


def _sizes(state: Mapping[str, object]) -> tuple[int, int]:
    """Bytes of all tensors, tied ones counted once; and counted each, as some writers do."""
    once, each = {}, 0
    for value in state.values():
        if isinstance(value, TensorRef):
            once[id(value.buffers), value.storage.key] = value.storage.nbytes
            each += math.prod(value.shape) * value.dtype.itemsize
        else:
            once[id(value)] = value.nbytes
            each += value.nbytes
    return sum(once.values()), each
