"""Texts that describe data sets: reading them, local or remote, with errors that help."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence

from data_pipelines.sources.remote import is_remote, read_bytes

MAX_REPORTED = 10  # bad lines shown in one error


def read_text(path: str) -> str:
    """The text of a list or annotation file.

    Raises:
      FileNotFoundError: no such file; names the most similar one beside it.
      OSError: it cannot be read.
      ValueError: it is a folder, or no UTF-8 text.
    """
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a list file: it is no UTF-8 text ({error}); if it is a list, save it "
            "as UTF-8"
        ) from error


def read_file(path: str) -> bytes:
    """The content of a file that describes a data set.

    Raises:
      FileNotFoundError: no such file; names the most similar one beside it.
      OSError: it cannot be read.
      ValueError: it is a folder.
    """
    try:
        if is_remote(path):
            return read_bytes(path)
        with open(os.path.expanduser(path), "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(_not_found(path)) from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder; give the list file that names its videos") from error


def lines_of(text: str) -> list[str]:
    """The lines of a text. Only \\n, \\r\\n and \\r end one: U+2028 and the like occur in names."""
    return re.split(r"\r\n|\r|\n", text)


def report(where: str, problems: Sequence[tuple[str, str]], total: int, hint: str) -> str:
    """The message for bad lines: how many of `total`, what a line should be, and the first ten."""
    shown = [f"  {place}: {message}" for place, message in problems[:MAX_REPORTED]]
    if len(problems) > len(shown):
        shown.append(f"  ... and {len(problems) - len(shown)} more")
    head = f"{len(problems)} of {total} lines of the list {where} cannot be used ({hint}):"
    return "\n".join([head, *shown])


def _not_found(path: str) -> str:
    """The message for a list file that is not there: suggests the most similar name beside it."""
    message = f"there is no list file {path}"
    if is_remote(path):
        return message
    folder, name = os.path.split(os.path.abspath(os.path.expanduser(path)))
    if not os.path.isdir(folder):
        return f"{message}: the folder {folder} does not exist"
    similar = difflib.get_close_matches(name, os.listdir(folder), n=1, cutoff=0.4)
    if similar:
        return f"{message}; did you mean {os.path.join(os.path.dirname(path), similar[0])}?"
    return f"{message} (other sources are 'demo', 'demo:hard' and 'tfds:NAME')"
