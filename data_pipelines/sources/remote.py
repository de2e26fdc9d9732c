"""Paths on other file systems (gs://..): read through TensorFlow's, with tries and plain errors."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from data_pipelines.quiet_tensorflow import tensorflow
from data_pipelines.reading.errors import VideoError

TRIES = 3  # of reading a remote file
WAIT_SECONDS = 1.0  # before the second try; doubled before each further one

log = logging.getLogger(__name__)


def is_remote(path: str) -> bool:
    """Whether a path names another file system (gs://...) than the local one."""
    return "://" in path


def join(root: str, path: str) -> str:
    """`root` before a relative path; absolute and remote paths stay as they are."""
    if not root or is_remote(path) or os.path.isabs(path):
        return path
    return f"{root.rstrip('/')}/{path}" if is_remote(root) else os.path.join(root, path)


def source_of(path: str) -> str | bytes:
    """What `open_video` takes for a path: itself if it is local, else the contents of the file.

    Raises:
      VideoError: if a remote file is not there, or could not be read in `TRIES` tries.
    """
    if not is_remote(path):
        return path
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise VideoError(path, str(error)) from error


def read_bytes(path: str) -> bytes:
    """The contents of a remote file.

    Raises:
      FileNotFoundError: if there is none.
      OSError: if it cannot be read, after `TRIES` tries where another try may help.
      ValueError: if TensorFlow has no such file system.
    """
    check_schemes([path])
    for attempt in range(TRIES):
        try:
            with _plain_errors(path), gfile().GFile(path, "rb") as file:
                return file.read()
        except ConnectionError as error:
            if attempt + 1 == TRIES:
                raise
            wait = WAIT_SECONDS * 2**attempt
            log.warning("%s; trying again in %g s", error, wait)
            time.sleep(wait)
    raise AssertionError("TRIES is at least 1")


def exists(path: str) -> bool:
    """Whether there is such a file or folder, local or remote; OSError if nobody can tell."""
    if not is_remote(path):
        return os.path.exists(path)
    check_schemes([path])
    with _plain_errors(path):
        return gfile().exists(path)


def is_folder(path: str) -> bool:
    """Whether there is such a folder, local or remote; OSError if nobody can tell."""
    if not is_remote(path):
        return os.path.isdir(path)
    check_schemes([path])
    with _plain_errors(path):
        return gfile().isdir(path)


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, names of sub-folders, names of files) as `os.walk`, local or remote."""
    if not is_remote(folder):
        yield from os.walk(folder, followlinks=True)
        return
    with _plain_errors(folder):
        for root, folders, files in gfile().walk(folder):
            yield root.rstrip("/"), [name.rstrip("/") for name in folders], files


def check_schemes(paths: Iterable[str]) -> None:
    """Refuses paths on file systems that cannot be read here; asks no network.

    Raises:
      ValueError: naming the scheme, a path of it, and the remedy.
    """
    first: dict[str, str] = {}
    for path in paths:
        if is_remote(path):
            first.setdefault(path.partition("://")[0], path)
    if not first:
        return
    known = set(gfile().get_registered_schemes())
    for scheme, path in first.items():
        if scheme not in known:
            readable = ", ".join(f"{name}://" for name in sorted(known - {"", "ram"}))
            remedy = (
                "install a TensorFlow plugin for it (tensorflow-io has s3)"
                if scheme.startswith("s3")
                else "download the files"
            )
            raise ValueError(
                f"{scheme}:// cannot be read here ({path}); TensorFlow reads {readable} and local "
                f"paths: {remedy}"
            )


def gfile() -> Any:
    """TensorFlow's file systems (gs:// and others); using them touches no accelerator."""
    return tensorflow().io.gfile


@contextlib.contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    """TensorFlow's errors, which are no OSError, as the OSError that they mean."""
    tf = tensorflow()
    # Another try does not help against these.
    final = {
        tf.errors.NotFoundError: FileNotFoundError,
        tf.errors.PermissionDeniedError: PermissionError,
        tf.errors.UnauthenticatedError: PermissionError,
        tf.errors.UnimplementedError: OSError,
        tf.errors.InvalidArgumentError: OSError,
    }
    try:
        yield
    except tf.errors.OpError as error:
        if isinstance(error, tf.errors.NotFoundError):
            raise FileNotFoundError(f"there is no file {path}") from error
        text = (error.message or "").strip().split("\n")[0][:300]
        kind = next((plain for tensor, plain in final.items() if isinstance(error, tensor)), None)
        raise (kind or ConnectionError)(f"cannot read {path}: {text}") from error
