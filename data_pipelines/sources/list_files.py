"""List files: one video a line, as the official releases of video models keep their data sets."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Sequence

import numpy as np

from data_pipelines.sources.records import (
    Catalog,
    Record,
    class_count,
    gfile,
    is_remote,
    join,
    read_bytes,
)

_MAX_REPORTED = 10  # bad lines shown in one error
_LINE_HELP = "each line is `path label` or, with times in seconds, `path start end label`"


class ListFile(Catalog):
    """A text file with one video a line: ``path label`` or ``path start end label``.

    Fields are split from the right, so paths may hold the separator (and white space). Blank lines
    and lines that begin with # are skipped; quotes around a path are dropped. Whether the videos
    exist is not checked here, as it would take minutes on a large set: see `missing`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        separator: str | None = None,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
    ):
        """Reads and checks the whole list.

        Raises:
          FileNotFoundError: no such list; names the most similar file beside it.
          ValueError: not a text file, no video in it, or bad lines (the first ten are shown).
        """
        self.path = os.fspath(path)
        self._root = os.path.expanduser(root)
        self._paths: list[str] = []
        labels: list[int] = []
        self._spans: dict[int, tuple[float, float]] = {}
        given, self.label_names = class_count(self.path, None, num_classes, label_names)
        problems = []
        for number, line in enumerate(_read_text(self.path).splitlines(), start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                video, span, label = _parse_line(line, separator, given)
            except ValueError as error:
                problems.append(f"  line {number}: {error}")
                continue
            if span is not None:
                self._spans[len(self._paths)] = span
            self._paths.append(video)
            labels.append(label)
        if problems:
            raise ValueError(_list_error(self.path, problems, good=len(self._paths)))
        if not self._paths:
            raise ValueError(f"the list {self.path} names no video; {_LINE_HELP}")
        self._labels = np.array(labels, np.int64)
        self.num_classes = int(self._labels.max()) + 1 if given is None else given

    def __len__(self) -> int:
        """How many videos the list names."""
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        """Example `index`; reads the file only if it is remote."""
        path = self.video_path(index)
        start, end = self._spans.get(range(len(self))[index], (None, None))
        source = read_bytes(path) if is_remote(path) else path
        return Record(source, int(self._labels[index]), path, start, end)

    def labels(self) -> np.ndarray:
        """Class number of every line, [len] int64."""
        return self._labels

    def video_path(self, index: int) -> str:
        """The path of example `index`, `root` included."""
        return join(self._root, self._paths[index])


def missing(catalog: ListFile, limit: int = 10) -> list[str]:
    """The first `limit` videos of a list that do not exist; asks the file system for each."""
    found: list[str] = []
    for index in range(len(catalog)):
        path = catalog.video_path(index)
        exists = gfile().exists(path) if is_remote(path) else os.path.exists(path)
        if not exists:
            found.append(path)
            if len(found) >= limit:
                break
    return found


def _parse_line(
    line: str, separator: str | None, num_classes: int | None
) -> tuple[str, tuple[float, float] | None, int]:
    """``path [start end] label`` -> path, span, label; the ValueError says what is wrong."""
    *head, last = (field.strip() for field in line.rsplit(separator, 1))
    if not head:
        hint = "" if "," not in line or separator == "," else "; for commas pass separator=','"
        raise ValueError(f"no label in {line!r}{hint}")
    path = head[0]
    try:
        label = int(last)
    except ValueError:
        if separator is None and "," in last:
            hint = "for commas pass separator=','"
        else:
            hint = "number the class names from 0, and mark a heading with #"
        raise ValueError(f"label {last!r} of {path!r} is not an integer; {hint}") from None
    if label < 0 or (num_classes is not None and label >= num_classes):
        allowed = f"0..{num_classes - 1}" if num_classes else "0, 1, 2, ..."
        raise ValueError(f"label {label} of {path!r} is outside {allowed}; classes count from 0")
    span = None
    fields = [field.strip() for field in path.rsplit(separator, 2)]
    if len(fields) == 3 and _is_number(fields[1]) and _is_number(fields[2]):
        path, span = fields[0], (float(fields[1]), float(fields[2]))
        if not 0.0 <= span[0] < span[1] < math.inf:
            raise ValueError(
                f"span {fields[1]} to {fields[2]} of {path!r}: seconds, and 0 <= start < end"
            )
    if len(path) > 1 and path[0] == path[-1] == '"':
        path = path[1:-1]
    if not path:
        raise ValueError(f"no path in {line!r}")
    return path, span, label


def _list_error(path: str, problems: Sequence[str], good: int) -> str:
    """The message for a list with bad lines."""
    shown = list(problems[:_MAX_REPORTED])
    if len(problems) > len(shown):
        shown.append(f"  ... and {len(problems) - len(shown)} more")
    total = good + len(problems)
    head = f"{len(problems)} of {total} lines of the list {path} cannot be used ({_LINE_HELP}):"
    return "\n".join([head, *shown])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(path: str) -> str:
    """The text of a list file, with helpful errors."""
    try:
        if is_remote(path):
            data = read_bytes(path)
        else:
            with open(os.path.expanduser(path), "rb") as file:
                data = file.read()
        return data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(_not_found(path)) from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder; give the list file that names its videos") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a list file: it is no UTF-8 text ({error})") from error


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
