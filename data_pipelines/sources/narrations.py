"""Narrations of long videos as LaViLa publishes them for Ego4D: a pickle of tuples."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_pipelines.sources.annotations import captions_of
from data_pipelines.sources.labels import known_classes
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.plain_pickle import load_plain
from data_pipelines.sources.records import Catalog
from data_pipelines.sources.text_files import read_file

_HELP = "an entry is (video, start second, end second, narration or a list of them)"
SHORTEST = 1e-3  # seconds; some narrations end when they start, and mean one frame

log = logging.getLogger(__name__)


class NarrationFile(PathCatalog):
    """(video, start, end, narrations, ..) each; more fields are not read.

    A video without an ending is an `.mp4`, a file or a folder of chunks of that name. An entry
    whose narrations are all empty is left out.
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
        """Reads and checks the whole file.

        Raises:
          OSError: no such file, or it cannot be read.
          ValueError: not of its format, or bad entries (the first ten are shown).
        """
        path = os.fspath(path)
        if separator:
            raise ValueError(f"separator={separator!r} has no meaning for {path}; leave it out")
        rows = load_plain(path, read_file(path))
        if not isinstance(rows, list | tuple):
            raise ValueError(f"{path} holds a {type(rows).__name__}, no list; {_HELP}")
        entries, problems, counts = [], [], Counter()
        for number, row in enumerate(rows, 1):
            try:
                entries += _entry(f"entry {number}", row, counts)
            except (ValueError, TypeError) as error:
                problems.append((f"entry {number}", str(error)))
        classes = known_classes(path, num_classes, label_names, training)
        super().__init__(path, entries, classes, root, problems, _HELP)
        if counts:
            told = "; ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            log.info("%s: %d examples; left out: %s", path, len(self), told)


def _entry(place: str, row: Any, counts: Counter) -> list[Entry]:
    if not isinstance(row, list | tuple) or len(row) < 4 or not isinstance(row[0], str):
        raise ValueError(f"{repr(row)[:60]} is none")
    video, start, end, said = row[:4]
    start, end = float(start), float(end)
    if not 0 <= start <= end:
        raise ValueError(f"span {start:g} to {end:g}: seconds, and 0 <= start <= end")
    captions = captions_of(list(said) if isinstance(said, tuple) else said, counts)
    if not captions:
        counts["entries without a narration"] += 1
        return []
    video = video if os.path.splitext(video)[1] else f"{video}.mp4"
    return [Entry(place, video, start=start, end=max(end, start + SHORTEST), captions=captions)]
