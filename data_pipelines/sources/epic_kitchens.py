"""EPIC-KITCHENS-100 as it is published: actions and narrations of spans, and graded relevancies."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import logging
import os
import re
from collections.abc import Sequence

import numpy as np

from data_pipelines.sources.labels import known_classes
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.plain_pickle import load_plain
from data_pipelines.sources.records import Catalog, Record, Relevancy
from data_pipelines.sources.remote import exists, join
from data_pipelines.sources.text_files import lines_of, read_file, read_text

_COLUMNS = (
    "narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp", "narration",
)  # fmt: skip
_ACTION = ("verb_class", "noun_class")
_HELP = "a row has the columns of EPIC_100_train.csv, times as HH:MM:SS.ss"
RELEVANT = 0.1  # sentences above it describe a clip for training, as in AVION

log = logging.getLogger(__name__)


def is_epic_file(path: str) -> bool:
    """Whether a path is of one: a .csv whose heading has its columns."""
    if os.path.splitext(path)[1].lower() != ".csv":
        return False
    return set(_COLUMNS) <= set(lines_of(read_text(path))[0].split(","))


class EpicKitchens(PathCatalog):
    """A .csv of the annotations; videos are `PARTICIPANT/VIDEO.MP4` below the root.

    Labels are actions, called "VERB:NOUN" by their class numbers. Their order is that of the texts,
    over this file and the ones beside it of the other splits, as AVION has it.

    Beside EPIC_100_retrieval_SPLIT.csv may lie EPIC_100_retrieval_SPLIT_sentence.csv and, there or
    in `relevancy/`, caption_relevancy_EPIC_100_retrieval_SPLIT.pkl or .npy. A clip's captions are
    then its own narration and all other sentences of a relevancy above `RELEVANT`.
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
        """Reads and checks the whole file; relevancies when they are first asked for.

        Raises:
          OSError: no such file, or it cannot be read.
          ValueError: not of its format, or bad rows (the first ten are shown).
        """
        path = os.fspath(path)
        if separator:
            raise ValueError(f"separator={separator!r} has no meaning for {path}; leave it out")
        rows, entries, problems = _rows(path), [], []
        for number, row in enumerate(rows, 2):
            try:
                entries.append(_entry(f"line {number}", row))
            except ValueError as error:
                problems.append((f"line {number}", str(error)))
        if label_names is None and training is None and _ACTION[0] in rows[0]:
            label_names = action_names(path)
        classes = known_classes(path, num_classes, label_names, training)
        super().__init__(path, entries, classes, root, problems, _HELP)

    def __getitem__(self, index: int) -> Record:
        """Clip `index`, with the captions that its relevancies name; see `PathCatalog`."""
        record = super().__getitem__(index)
        graded = self.relevancy()
        if graded is None:
            return record
        row = graded.values[range(len(self))[index]]
        found = {record.captions[0]: 1.0}
        for number in np.flatnonzero(row > RELEVANT):
            found.setdefault(graded.texts[number], float(row[number]))
        return dataclasses.replace(record, captions=tuple(found), relevancies=tuple(found.values()))

    def relevancy(self) -> Relevancy | None:
        """Of the sentences beside the file; None if there are none.

        Raises:
          OSError, ValueError: they cannot be read, or are those of other clips.
        """
        return self._relevancy

    @functools.cached_property
    def _relevancy(self) -> Relevancy | None:
        stem, ending = os.path.splitext(self.path)
        sentences = f"{stem}_sentence{ending}"
        folder, name = os.path.split(stem)
        places = [
            join(join(folder, inner), f"caption_relevancy_{name}{kind}")
            for inner in ("", "relevancy")
            for kind in (".npy", ".pkl")
        ]
        there = [place for place in places if exists(os.path.expanduser(place))]
        if not there or not exists(os.path.expanduser(sentences)):
            return None
        texts = tuple(row["narration"].strip() for row in _rows(sentences))
        data = read_file(there[0])
        if there[0].endswith(".npy"):
            values = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            values = load_plain(there[0], data)
        shape = (len(self), len(texts))
        if not isinstance(values, np.ndarray) or values.shape != shape:
            found = getattr(values, "shape", type(values).__name__)
            raise ValueError(
                f"{there[0]} must hold an array {list(shape)}, a row for each clip of {self.path} "
                f"and a column for each sentence of {sentences}, not {found}"
            )
        return Relevancy(texts, values)


def action_names(path: str) -> tuple[str, ...]:
    """ "VERB:NOUN" of all actions of a file and of those beside it of the other splits, sorted."""
    found = re.fullmatch(r"(.*_)(train|validation|test)(\.csv)", path)
    splits = ("train", "validation", "test") if found else ()
    beside = [f"{found[1]}{split}{found[3]}" for split in splits]
    files = [file for file in beside if exists(os.path.expanduser(file))] or [path]
    rows = (row for file in files for row in _rows(file))
    return tuple(sorted({_action(row) for row in rows if _ACTION[0] in row}))


def _rows(path: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows:
        raise ValueError(f"{path} has no row below its heading")
    return rows


def _action(row: dict[str, str]) -> str:
    verb, noun = (row[column] for column in _ACTION)
    if not (str(verb).isdecimal() and str(noun).isdecimal()):
        raise ValueError(f"verb_class {verb!r} and noun_class {noun!r} must be numbers")
    return f"{int(verb)}:{int(noun)}"


def _entry(place: str, row: dict[str, str]) -> Entry:
    lacking = [column for column in _COLUMNS if not row.get(column)]
    if lacking:
        raise ValueError(f"no {', '.join(lacking)}")
    start, end = (_seconds(row[column]) for column in ("start_timestamp", "stop_timestamp"))
    if not start < end:
        raise ValueError(f"span {start:g} to {end:g} s: it must start before it ends")
    video = f"{row['participant_id']}/{row['video_id']}.MP4"
    label = {"label": _action(row)} if _ACTION[0] in row else {}
    return Entry(place, video, start=start, end=end, captions=(row["narration"].strip(),), **label)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+):(\d{2}):(\d{2}(?:\.\d+)?)", text.strip())
    if not found:
        raise ValueError(f"time {text!r} is not HH:MM:SS.ss")
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
