"""A record says what to read: a video, its label, its span. The words that all catalogs share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
      source: a local path, the bytes of an encoded video, or an open video (see `arrays`).
      label: class number, 0 .. num_classes - 1.
      name: what messages call it.
      start, end: seconds of the span to use; None where the video is used whole.
    """

    source: Any
    label: int
    name: str
    start: float | None = None
    end: float | None = None


class Catalog(Protocol):
    """A sequence of records with random access; safe to read from several threads."""

    num_classes: int
    label_names: tuple[str, ...] | None

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Example `index`; may read a file."""
        ...

    def labels(self) -> np.ndarray:
        """Class number of every example, [len] int64; may read the whole data set."""
        return np.array([self[i].label for i in range(len(self))], np.int64)


def class_count(
    where: str,
    own: tuple[str, ...] | None,
    num_classes: int | None,
    label_names: Sequence[str] | None,
) -> tuple[int | None, tuple[str, ...] | None]:
    """Number and names of the classes, from what the source has and what the caller says."""
    if isinstance(label_names, str):
        raise ValueError(f"label_names must be a sequence of names, not the string {label_names!r}")
    names = own if label_names is None else tuple(label_names)
    counts = {
        "num_classes": num_classes,
        "label_names": None if label_names is None else len(label_names),
        where: None if own is None else len(own),
    }
    known = {key: count for key, count in counts.items() if count is not None}
    if len(set(known.values())) > 1 or min(known.values(), default=1) < 1:
        said = ", ".join(f"{key} says {count}" for key, count in known.items())
        raise ValueError(f"the number of classes must be one positive number, but {said}")
    return next(iter(known.values()), None), names


def is_remote(path: str) -> bool:
    """Whether a path names another file system (gs://...) than the local one."""
    return "://" in path


def join(root: str, path: str) -> str:
    """`root` before a relative path; absolute and remote paths stay as they are."""
    if not root or is_remote(path) or os.path.isabs(path):
        return path
    return f"{root.rstrip('/')}/{path}" if is_remote(root) else os.path.join(root, path)


def gfile() -> Any:
    """TensorFlow's file systems (gs:// and others); using them touches no accelerator."""
    import tensorflow as tf

    return tf.io.gfile


def read_bytes(path: str) -> bytes:
    """The contents of a remote file, or a FileNotFoundError."""
    if not gfile().exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    with gfile().GFile(path, "rb") as file:
        return file.read()
