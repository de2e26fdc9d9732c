"""Paths as users write them: ~ is their home, and what is no local path is refused at once."""

import argparse
import os


def local_path(path: str | os.PathLike) -> str:
    """The path with ~ expanded, which a shell leaves as it is in --option=~/folder.

    Raises:
      ValueError: for an empty path, or a remote address, such as gs://bucket/folder.
    """
    text = os.path.expanduser(os.fspath(path))
    if not text:
        raise ValueError("'' names no folder and no file")
    if "://" in text:
        raise ValueError(
            f"{text} is remote: checkpoints, locks and results need a file system; use a local or "
            "mounted folder and copy it"
        )
    return text


def path_argument(text: str) -> str:
    """`local_path` as the type of an argparse option."""
    try:
        return local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
