"""A record says what to read: a video, what is said of it, its span. The words of all catalogs."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
      source: what `reading.video.open_video` takes: a local path of a file or folder, the bytes of
        an encoded video, a `FrameFolder` or `ChunkFolder`, or a video in memory (see `arrays`).
      label: class number, 0 .. num_classes - 1; `NO_LABEL` where the data have none.
      name: what messages call it.
      start, end: seconds of the span to use; None where the video is used whole.
      captions: texts that describe it, without white space around them; none is empty. Where it has
        answers, the one question that they answer.
      weight: how often it is drawn, relative to the others.
      origin: name of its source in a mix of several.
      relevancies: how well each caption describes it, 0 to 1; () where all do.
      answers: to the question, as often as people gave them.
      options: of multiple choice, texts of which the one numbered `label` is right.
    """

    source: Any
    label: int
    name: str
    start: float | None = None
    end: float | None = None
    captions: tuple[str, ...] = ()
    weight: float = 1.0
    origin: str = ""
    relevancies: tuple[float, ...] = ()
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Relevancy(NamedTuple):
    """Graded relevancies of texts, as multi-instance retrieval measures with.

    Attributes:
      texts: S of them.
      values: [N, S] float in 0..1, N examples.
    """

    texts: tuple[str, ...]
    values: np.ndarray


class Catalog(Protocol):
    """A sequence of records with random access; safe to read from several threads.

    Attributes:
      num_classes: of the labels; 0 where the data have none.
      label_names: of the classes; None where they have none.
      numbered_by_name: whether the numbers are nothing but the sorted order of the names.
    """

    num_classes: int
    label_names: tuple[str, ...] | None
    numbered_by_name: bool = False

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Example `index`; may read a file."""
        ...

    def name(self, index: int) -> str:
        """What messages call example `index`; may read a file."""
        return self[index].name

    def has_file(self, index: int) -> bool:
        """Whether the file of example `index` is there; True of what is no file of its own."""
        return True

    def labels(self) -> np.ndarray:
        """Class number of every example, [len] int64; may read the whole data set."""
        return np.array([self[i].label for i in range(len(self))], np.int64)

    def weights(self) -> np.ndarray | None:
        """How often each example is drawn, [len] float64; None: all alike."""
        return None

    def groups(self) -> np.ndarray:
        """Group of every example, [len] int64; may read the whole data set.

        Examples with equal captions share a number, and so are no negatives of each other; one
        without captions has a number of its own.
        """
        return group_numbers(self.captions())

    def captions(self) -> list[tuple[str, ...]]:
        """Right texts of every example, for retrieval; may read the whole data set."""
        return [self[i].captions for i in range(len(self))]

    def answers(self) -> list[tuple[str, ...]]:
        """Answers of every example, see `Record`; may read the whole data set."""
        return [self[i].answers for i in range(len(self))]

    def options(self) -> list[tuple[str, ...]]:
        """Options of every example, see `Record`; may read the whole data set."""
        return [self[i].options for i in range(len(self))]

    def relevancy(self) -> Relevancy | None:
        """How well texts that several examples share fit each of them; None: nobody has said."""
        return None


def group_numbers(captions: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Numbers [N] int64, 0, 1, .. as first met, the same for equal captions (exact text)."""
    known: dict[Hashable, int] = {}
    numbers = [known.setdefault(texts or i, len(known)) for i, texts in enumerate(captions)]
    return np.array(numbers, np.int64)


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
