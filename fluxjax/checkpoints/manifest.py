"""Manifests: what a folder of files must contain, byte for byte, and what its arrays are.

FOLDER/manifest.json         size and sha256 of every file; names, shapes and dtypes of the arrays;
                             versions of the software, and whatever else the writer says
FOLDER/manifest.json.sha256  of the manifest itself, in the format of `sha256sum --check`
"""

import difflib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

import jax

from fluxjax.version import __version__

MANIFEST = "manifest.json"
CHECKSUM = f"{MANIFEST}.sha256"

_FORMAT = 1
_SHOWN = 5  # problems named in one message


class DamagedError(ValueError):
    """A folder is not what its manifest says."""


def write(folder: str | os.PathLike, tree: Any, **more: Any) -> None:
    """Describes the files that are in `folder` now.

    Args:
      folder: complete but for the manifest.
      tree: of the arrays stored there; only names, shapes and dtypes are used.
      **more: JSON values to store beside, such as the config.
    """
    folder = pathlib.Path(folder)
    record = {
        "format": _FORMAT,
        "files": {name: _describe(folder / name) for name in _files(folder)},
        "tree": describe_tree(tree),
        "versions": versions(),
    } | more
    text = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    (folder / MANIFEST).write_bytes(text)
    (folder / CHECKSUM).write_text(_checksum_line(text), encoding="ascii")


def read(folder: str | os.PathLike) -> dict[str, Any]:
    """The manifest, once its checksum and its form are right; the files are not looked at.

    Raises:
      DamagedError: naming what is wrong with it.
      OSError: if it cannot be read.
    """
    folder = pathlib.Path(folder)
    for name in (MANIFEST, CHECKSUM):
        if not (folder / name).is_file():
            raise DamagedError(f"{folder} has no {name}: it is incomplete, or of an older fluxjax")
    text = (folder / MANIFEST).read_bytes()
    if (folder / CHECKSUM).read_bytes() != _checksum_line(text).encode():
        raise DamagedError(f"{folder} is damaged: {MANIFEST} or {CHECKSUM} has changed")
    return _checked(text, folder)


def verify(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads every file and compares it with the manifest, which is returned.

    Raises:
      DamagedError: naming the first files that are missing, changed or not listed.
    """
    folder = pathlib.Path(folder)
    try:
        record = read(folder)
        listed = record["files"]
        found = _files(folder)
        problems = [f"{name} is not in the manifest" for name in sorted(found - set(listed))]
        for name, about in sorted(listed.items()):
            problem = _compare(folder / name, about) if name in found else "is missing"
            if problem:
                problems.append(f"{name} {problem}")
    except OSError as error:
        raise DamagedError(f"{folder} cannot be read: {error}") from error
    if problems:
        rest = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DamagedError(f"{folder} is damaged: {'; '.join(problems[:_SHOWN])}{rest}")
    return record


def describe_tree(tree: Any) -> dict[str, list]:
    """Name -> [dtype, shape] of the arrays, such as params/heads_0/bias -> ["float32", [4]]."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(x.dtype), list(x.shape)]
        for path, x in leaves
    }


def tree_problems(stored: Mapping[str, list], expected: Any) -> list[str]:
    """Every difference between a stored tree and the arrays that are expected, in words.

    Names, shapes and dtypes must be equal; a name that is not stored comes with the nearest one.
    """
    wanted, problems = describe_tree(expected), []
    surplus = sorted(set(stored) - set(wanted))
    for name, (dtype, shape) in wanted.items():
        if name not in stored:
            near = difflib.get_close_matches(name, surplus, n=1)
            hint = f" (nearest: {near[0]})" if near else ""
            problems.append(f"{name} is not stored{hint}")
        elif stored[name] != [dtype, shape]:
            was = "{}{}".format(*stored[name])
            problems.append(f"{name} is stored as {was}, expected {dtype}{shape}")
    return problems + [f"{name} is stored but not expected" for name in surplus]


def versions() -> dict[str, str]:
    """Versions of what wrote a checkpoint."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"fluxjax": __version__, "python": platform.python_version(), **found}


def _files(folder: pathlib.Path) -> set[str]:
    """Relative names of all files but the manifest's own."""
    paths = (pathlib.Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {path.relative_to(folder).as_posix() for path in paths} - {MANIFEST, CHECKSUM}


def _describe(path: pathlib.Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": digest}


def _compare(path: pathlib.Path, about: Mapping[str, Any]) -> str | None:
    size = path.stat().st_size
    if size != about["size"]:
        return f"has {size} bytes, not {about['size']}"
    return None if _describe(path) == about else "has another sha256: bits have changed"


def _checksum_line(text: bytes) -> str:
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n"


def _checked(text: bytes, folder: pathlib.Path) -> dict[str, Any]:
    """Parses a manifest; one with a right checksum can still be written by anybody."""
    try:
        record = json.loads(text)
        form = record["format"]
        files, tree = record["files"], record["tree"]
        well_formed = isinstance(files, dict) and isinstance(tree, dict)
        well_formed = well_formed and all(
            isinstance(about["size"], int) and re.fullmatch("[0-9a-f]{64}", about["sha256"])
            for about in files.values()
        )
        well_formed = well_formed and all(len(about) == 2 for about in tree.values())
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DamagedError(f"{folder / MANIFEST} is not a manifest: {what}") from error
    if form != _FORMAT or not well_formed:
        raise DamagedError(f"{folder / MANIFEST} is not a manifest of format {_FORMAT}")
    return record
