"""List files: one video a line, as the official releases of video models keep their data sets."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence

from data_pipelines.sources.labels import known_classes, parse_label
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.records import Catalog
from data_pipelines.sources.remote import is_remote, join
from data_pipelines.sources.text_files import lines_of, read_text

_LINE_HELP = "each line is `path label` or, with times in seconds, `path start end label`"
BLANK = " \t\v\f"  # between fields; other white space occurs in names
_ENDINGS = (
    "mp4", "avi", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "ts", "mts", "m2ts", "flv", "wmv",
    "3gp", "ogv", "gif",
)  # fmt: skip
_IS_VIDEO = re.compile(rf".*\.({'|'.join(_ENDINGS)})", re.IGNORECASE | re.DOTALL)
_HEADING = re.compile(r"#?(video|path|file|filename|name)(_?(path|name|id|file))?s?", re.IGNORECASE)

log = logging.getLogger(__name__)


class ListFile(PathCatalog):
    """A text file with one video a line: ``path label`` or ``path start end label``.

    Labels are numbers from 0, or names; all of them -1 if there are none. Fields are split from the
    right, so paths may hold the separator (and white space). Blank lines and lines that begin with
    # are skipped, unless a file of that name exists; quotes around a path are dropped. The names in
    a `classes.txt` beside the list, one a line, give the order of the classes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        separator: str | None = None,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
        training: Catalog | None = None,
    ):
        """Reads and checks the whole list.

        Raises:
          OSError: no such list (names the most similar file beside it), or it cannot be read.
          ValueError: not a text file, no video in it, or bad lines (the first ten are shown).
        """
        path = os.fspath(path)
        text = read_text(path)
        classes = known_classes(path, num_classes, label_names, training)
        entries, problems, comments, whole = [], [], [], []
        for number, line in enumerate(lines_of(text), start=1):
            line = line.strip(BLANK)
            if not line:
                continue
            try:
                entry = _parse_line(line, separator, f"line {number}", root)
            except ValueError as error:
                if not line.startswith("#"):
                    problems.append((f"line {number}", str(error)))
                continue
            if not line.startswith("#") or _is_file(root, entry.path):
                entries.append(entry)
                numbers = line.rpartition(entry.path)[2]
                if entry.start is not None and isinstance(entry.label, int) and "." not in numbers:
                    whole.append(entry)
            elif is_video_name(entry.path):
                comments.append((number, line))
        super().__init__(path, entries, classes, root, problems, _LINE_HELP)
        _warn_of_comments(path, comments)
        if len(whole) == sum(entry.start is not None for entry in entries):
            _warn_of_spans(path, whole)


def is_video_name(path: str) -> bool:
    """Whether a path ends as names of video files do."""
    return bool(_IS_VIDEO.fullmatch(path))


def _parse_line(line: str, separator: str | None, place: str, root: str) -> Entry:
    """``path [start end] label`` -> an entry; the ValueError says what is wrong."""
    *head, last = fields_of(line, separator, 1)
    if not head or is_video_name(last):
        hint = "" if "," not in line or separator == "," else "; for commas pass separator=','"
        raise ValueError(f"no label in {line!r}{hint}")
    path = head[0]
    if separator is None and "," in last:
        raise ValueError(
            f"label {last!r} of {path!r} is not an integer; for commas pass separator=','"
        )
    try:
        label = parse_label(last)
    except ValueError as error:
        raise ValueError(f"label {last!r} of {path!r} {error}") from error
    if isinstance(label, str) and place == "line 1" and _HEADING.fullmatch(path):
        raise ValueError(f"{line!r} seems to be a heading; mark it with #")
    start = end = None
    fields = fields_of(path, separator, 2)
    if len(fields) == 3 and _is_number(fields[1]) and _is_number(fields[2]):
        path, start, end = fields[0], float(fields[1]), float(fields[2])
        if not 0.0 <= start < end < math.inf:
            raise ValueError(
                f"span {fields[1]} to {fields[2]} of {path!r}: seconds, and 0 <= start < end; "
                "several labels a video are not understood"
            )
    if len(path) > 1 and path[0] == path[-1] == '"':
        path = path[1:-1]
    if not path:
        raise ValueError(f"no path in {line!r}")
    _check_ending(path, separator, root)
    return Entry(place, path, label, start, end)


def fields_of(text: str, separator: str | None, cuts: int) -> list[str]:
    """At most `cuts` + 1 fields, split from the right; white space is that of ASCII."""
    if separator is not None:
        return [field.strip(BLANK) for field in text.rsplit(separator, cuts)]
    fields = []
    while len(fields) < cuts and (found := re.fullmatch(rf"(.*[^{BLANK}])[{BLANK}]+(.*)", text,
                                                       re.DOTALL)):  # fmt: skip
        text, last = found.groups()
        fields.insert(0, last)
    return [text, *fields]


def _check_ending(path: str, separator: str | None, root: str) -> None:
    """Refuses ``a.mp4 300``: fields that were taken for a part of the path."""
    if is_video_name(path):
        return
    head, *rest = fields_of(path, separator, 1)
    while rest:
        known = is_video_name(head) or _is_file(root, head)
        if known and not _is_file(root, path):
            raise ValueError(
                f"the path {path!r} goes on after {head!r}; lines have one label and no other "
                "numbers than times, names of several words need another separator (a tab, a comma)"
            )
        head, *rest = fields_of(head, separator, 1)


def _is_file(root: str, path: str) -> bool:
    path = join(os.path.expanduser(root), path)
    return not is_remote(path) and os.path.exists(path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _warn_of_comments(path: str, comments: Sequence[tuple[int, str]]) -> None:
    if comments:
        number, line = comments[0]
        log.warning(
            "%s: %d lines that begin with # name videos and are skipped as comments, the first is "
            "line %d: %r; if it is a video, write ./ before the path", path, len(comments), number,
            line,
        )  # fmt: skip


def _warn_of_spans(path: str, spans: Sequence[Entry]) -> None:
    """Whole seconds may be labels: nothing tells `a.mp4 1 3 5` from a video with three classes."""
    if spans:
        first = spans[0]
        log.warning(
            "%s: %d lines are read as `path start end label`, the first is %s: %g s to %g s of %r, "
            "class %d; if these are three labels, give one a video; if not, write seconds as 1.0 "
            "and this is not asked again", path, len(spans), first.place, first.start, first.end,
            first.path, first.label,
        )  # fmt: skip
