"""Catalogs of video files: what lists, annotations, class folders and tar files have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.sources.labels import Classes, count_classes, number_labels
from data_pipelines.sources.records import NO_LABEL, Catalog, Record
from data_pipelines.sources.remote import check_schemes, exists, join, source_of
from data_pipelines.sources.text_files import report


class Entry(NamedTuple):
    """What a data set says of one video.

    Attributes:
      place: where it says so, such as "line 3".
      path: of the video, as it is written there.
      label: class number, class name, or `NO_LABEL`.
      start, end: seconds of the span; None for the whole video.
      captions, weight, answers, options: see `Record`.
    """

    place: str
    path: str
    label: int | str = NO_LABEL
    start: float | None = None
    end: float | None = None
    captions: tuple[str, ...] = ()
    weight: float = 1.0
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class PathCatalog(Catalog):
    """Records of video files.

    Whether the videos exist is not checked, as it would take minutes on a large set: see `missing`,
    and `presence.check_files` for a look at a few.
    """

    def __init__(
        self,
        path: str,
        entries: Sequence[Entry],
        classes: Classes,
        root: str = "",
        problems: Sequence[tuple[str, str]] = (),
        hint: str = "",
    ):
        """Numbers the classes.

        Args:
          path: of the list, annotation file or folder.
          entries: its videos.
          classes: what is known of them.
          root: folder or gs:// prefix put before relative paths.
          problems: (place, message) of entries that could not be understood.
          hint: what an entry should look like.

        Raises:
          ValueError: on problems (the first ten are shown), no video, labels that cannot be used,
            or paths that cannot be read here.
        """
        self.path = path
        self._root = os.path.expanduser(root)
        self._entries = list(entries)
        if not (entries or problems):
            raise ValueError(f"the list {path} names no video; {hint}")
        videos = [entry.path for entry in entries]
        try:
            self._labels, wrong = number_labels([e.label for e in entries], videos, classes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        problems = [*problems, *((entries[i].place, wrong[i]) for i in wrong)]
        if problems:
            problems.sort(key=lambda problem: int(problem[0].rpartition(" ")[2]))
            total = len(problems) + len(entries) - len(wrong)
            raise ValueError(report(path, problems, total, hint))
        named = any(isinstance(entry.label, str) for entry in entries)
        self.label_names = classes.names
        self.numbered_by_name = named and not classes.fixed
        if self.numbered_by_name and classes.names is None:
            self.label_names = tuple(sorted({entry.label for entry in entries}))
        count = len(self.label_names) if self.label_names else classes.count
        self.num_classes = count_classes(self._labels, path) if count is None else count
        try:
            check_schemes(self.video_path(index) for index in range(len(self)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __len__(self) -> int:
        """How many videos there are, each entry counted."""
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        """Example `index`; reads the file only if it is remote.

        Raises:
          VideoError: if a remote file cannot be read.
        """
        index = range(len(self))[index]
        entry = self._entries[index]
        return Record(
            self.source(index),
            int(self._labels[index]),
            self.video_path(index),
            entry.start,
            entry.end,
            entry.captions,
            weight=entry.weight,
            answers=entry.answers,
            options=entry.options,
        )

    def name(self, index: int) -> str:
        """Path of video `index`; reads nothing."""
        return self.video_path(index)

    def labels(self) -> np.ndarray:
        """Class number of every example, [len] int64."""
        return self._labels

    def weights(self) -> np.ndarray | None:
        """Weight of every example, [len] float64; None where all are 1. Reads no video."""
        weights = np.array([entry.weight for entry in self._entries])
        return None if (weights == 1).all() else weights

    def captions(self) -> list[tuple[str, ...]]:
        """Of every example; reads no video."""
        return [entry.captions for entry in self._entries]

    def answers(self) -> list[tuple[str, ...]]:
        """Of every example; reads no video."""
        return [entry.answers for entry in self._entries]

    def options(self) -> list[tuple[str, ...]]:
        """Of every example; reads no video."""
        return [entry.options for entry in self._entries]

    def video_path(self, index: int) -> str:
        """The path of example `index`, `root` included."""
        return join(self._root, self._entries[index].path)

    def source(self, index: int) -> str | bytes:
        """What `open_video` takes for example `index`; reads the file only if it is remote.

        Raises:
          VideoError: if a remote file cannot be read.
        """
        return source_of(self.video_path(index))

    def has_file(self, index: int) -> bool:
        """Whether the video of example `index` exists; asks the file system.

        Raises:
          OSError: if another file system does not answer.
        """
        return exists(self.video_path(index))


def missing(catalog: PathCatalog, limit: int = 10) -> list[str]:
    """The first `limit` videos that do not exist; asks the file system for each.

    Raises:
      OSError: if another file system does not answer.
    """
    found: list[str] = []
    for index in range(len(catalog)):
        if not catalog.has_file(index):
            found.append(catalog.video_path(index))
            if len(found) >= limit:
                break
    return found
