"""Annotation files: videos with captions, spans, labels and weights, in JSONL, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.sources.labels import known_classes, parse_label
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.questions import answers_of, options_of
from data_pipelines.sources.records import NO_LABEL, Catalog
from data_pipelines.sources.text_files import lines_of, read_text

_HELP = (
    "an entry has video (or path: one, or a list of those it is true of), and any of caption, "
    "captions, question and answer, start, end, label, weight"
)
_VIDEO, _CAPTION = ("video", "path"), ("caption", "captions", "question")
KEYS = (*_VIDEO, *_CAPTION, "answer", "start", "end", "label", "weight")  # that are read

log = logging.getLogger(__name__)

Row = tuple[str, dict[str, Any]]  # place, what is said there


class AnnotationFile(PathCatalog):
    """Entries of a file, see `open_catalog`; one that names several videos is an example of each.

    Captions lose white space around them. Those that are empty, no text, or twice in one entry are
    left out, and so is an entry that has no caption left and no label.

    A question has an answer, or a list of those that people gave. Captions whose `answer` is a
    number are options of multiple choice; it is the number of the right one, from 0.
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
        paragraphs: bool = False,
        first_seconds: float | None = None,
    ):
        """Reads and checks the whole file.

        Args:
          path, root, separator, num_classes, label_names, training: see `open_catalog`.
          paragraphs: captions of one entry are the sentences of one text.
          first_seconds: that are used of a video, or of an entry's span.

        Raises:
          OSError: no such file, or it cannot be read.
          ValueError: not of its format, or bad entries (the first ten are shown).
        """
        path = os.fspath(path)
        text = read_text(path)
        classes = known_classes(path, num_classes, label_names, training)
        entries: list[Entry] = []
        problems: list[tuple[str, str]] = []
        counts: Counter[str] = Counter()
        unread: set[str] = set()
        for place, row in _rows(path, text, separator):
            try:
                found = entries_of(place, row, counts, paragraphs, first_seconds)
            except ValueError as error:
                problems.append((place, str(error)))
                continue
            unread |= row.keys() - set(KEYS)
            entries += found
        super().__init__(path, entries, classes, root, problems, _HELP)
        told = [f"{count} {what}" for what, count in sorted(counts.items())]
        told += [f"keys that are not read: {', '.join(sorted(unread))}"] if unread else []
        if told:
            log.info("%s: %d examples; left out: %s", path, len(self), "; ".join(told))


def is_annotation_file(path: str) -> bool:
    """Whether a path is of one: by its ending, a .csv also by a heading that names videos."""
    ending = os.path.splitext(path)[1].lower()
    if ending != ".csv":
        return ending in (".jsonl", ".json")
    first = lines_of(read_text(path))[0]
    return any(name.strip().strip('"').lower() in _VIDEO for name in first.split(","))


def _rows(path: str, text: str, separator: str | None) -> Iterator[Row]:
    ending = os.path.splitext(path)[1].lower()
    if ending == ".csv":
        yield from _csv_rows(path, text, separator or ",")
        return
    if separator:
        raise ValueError(f"separator={separator!r} has no meaning for {path}; leave it out")
    if ending == ".jsonl":
        lines = ((f"line {i}", line) for i, line in enumerate(lines_of(text), 1))
        rows = [(place, _json(path, place, line)) for place, line in lines if line.strip()]
    else:
        content = _json(path, "", text)
        if not isinstance(content, list):
            keys = (
                f"keys {sorted(content)[:5]}" if isinstance(content, dict) else repr(content)[:40]
            )
            raise ValueError(f"{path} must be a list of objects, not {keys}; {_HELP}")
        rows = [(f"entry {i}", row) for i, row in enumerate(content, 1)]
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{path}, {place}: {repr(row)[:40]} is no object; {_HELP}")
        yield place, row


def _json(path: str, place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; one object a line is .jsonl" if "Extra data" in str(error) and not place else ""
        raise ValueError(f"{path}{place and ', ' + place}: no JSON ({error}){hint}") from error


def _csv_rows(path: str, text: str, separator: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    keys: list[str] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not keys:
                keys = [key.strip().lower() for key in fields]
                if len(set(keys)) < len(keys):
                    raise ValueError(f"{path}: the heading has a name twice: {fields}")
                continue
            place = f"line {reader.line_num}"
            if len(fields) != len(keys):
                raise ValueError(
                    f"{path}, {place}: {len(fields)} fields under a heading of {len(keys)}; put "
                    f'quotes (") round texts that hold {separator!r}'
                )
            row = dict(zip(keys, fields, strict=True))
            if row.get("captions", "").startswith("["):
                raise ValueError(
                    f"{path}, {place}: a row holds one caption, not a list; use .jsonl, or a row "
                    "for each"
                )
            # An empty field says nothing; but an empty caption is one, and is counted.
            yield place, {key: value for key, value in row.items() if value or key in _CAPTION}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV ({error})") from error


def entries_of(
    place: str,
    row: dict[str, Any],
    counts: Counter,
    paragraphs: bool = False,
    first_seconds: float | None = None,
) -> list[Entry]:
    """The examples of one entry; counts what is left out of it. See `AnnotationFile`.

    Raises:
      ValueError: saying what is wrong with the entry.
    """
    paths = _one_of(row, _VIDEO)
    if paths is None:
        raise ValueError(f"no video in it, only {sorted(row)[:8]}")
    paths = paths if isinstance(paths, list) else [paths]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"video={paths!r} must be a path, or a list of them")
    said, options, label = _one_of(row, _CAPTION), (), _label(row.get("label"))
    answers = answers_of(row)
    if isinstance(answers, int):
        options, label = options_of(row, answers), answers
        said, answers = None, ()
    captions = captions_of(said, counts)
    if paragraphs:
        captions = (" ".join(captions),) if captions else ()
    if said is not None and not captions and label == NO_LABEL:
        counts["entries without a usable caption"] += 1
        return []
    start, end = _span(row, first_seconds)
    weight = _number(row, "weight")
    if weight is not None and weight <= 0:
        raise ValueError(f"weight={weight:g} must be more than 0; leave the entry out instead")
    weight = 1.0 if weight is None else weight
    about = (label, start, end, captions, weight, answers, options)
    return [Entry(place, path, *about) for path in dict.fromkeys(paths)]


def _span(row: dict[str, Any], first: float | None) -> tuple[float | None, float | None]:
    """Seconds of an entry's span, or of the `first` ones of it."""
    start, end = _number(row, "start"), _number(row, "end")
    if (start is None) != (end is None) or (start is not None and not 0 <= start < end):
        raise ValueError(f"span {start} to {end}: seconds, both or neither, and 0 <= start < end")
    if first is None:
        return start, end
    return (0.0, first) if start is None else (start, min(end, start + first))


def _one_of(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    given = [key for key in keys if row.get(key) is not None]
    if len(given) > 1:
        raise ValueError(f"both {given[0]} and {given[1]} are given; keep one")
    return row[given[0]] if given else None


def captions_of(said: Any, counts: Counter) -> tuple[str, ...]:
    """The usable ones of a text, or a list of them; counts those that are left out."""
    if said is None:
        return ()
    captions: dict[str, None] = {}
    for caption in said if isinstance(said, list) else [said]:
        if not isinstance(caption, str):
            counts["captions that are no text"] += 1
        elif not caption.strip():
            counts["empty captions"] += 1
        elif caption.strip() in captions:
            counts["captions that are twice in an entry"] += 1
        else:
            captions[caption.strip()] = None
    return tuple(captions)


def _label(value: Any) -> int | str:
    if value is None:
        return NO_LABEL
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"label {value!r} is neither a class number nor a name")
    try:
        return parse_label(str(value).strip())
    except ValueError as error:
        raise ValueError(f"label {value!r} {error}") from error


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{key}={value!r} must be a number")
    return number
