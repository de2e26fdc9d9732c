"""Labels as people write them, numbers or names, to class numbers that train and test share."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_pipelines.sources.records import NO_LABEL, Catalog, class_count
from data_pipelines.sources.remote import exists, join
from data_pipelines.sources.text_files import lines_of, read_text

MAX_CLASSES = 1_000_000  # more are a mistake: an identifier in the place of a label
_SHOWN = 10

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classes:
    """What is known of the classes before the labels are read.

    Attributes:
      count: how many; None if nobody says.
      names: of the classes; None if nobody says.
      training: the catalog whose numbering holds; None for the training data themselves.
      fixed: whether the order of the names is somebody's choice, not the sorted order.
    """

    count: int | None
    names: tuple[str, ...] | None
    training: Catalog | None
    fixed: bool


def known_classes(
    path: str,
    num_classes: int | None,
    label_names: Sequence[str] | None,
    training: Catalog | None,
) -> Classes:
    """Gathers what the caller, a `classes.txt` beside `path` and the training catalog say.

    Raises:
      ValueError: if they disagree.
    """
    beside = join(os.path.dirname(path) or ".", "classes.txt")
    own = None
    if label_names is None and exists(os.path.expanduser(beside)):
        own = read_class_names(beside)
    if training is not None and label_names is None:
        if own and training.label_names and own != training.label_names:
            raise ValueError(
                f"{beside} does not name the classes of the training data in their order "
                f"({_some(training.label_names)}); give both the same file"
            )
        own = own or training.label_names
        num_classes = training.num_classes or num_classes
    count, names = class_count(beside, own, num_classes, label_names)
    inherited = training is not None and training.numbered_by_name
    return Classes(count, names, training, fixed=names is not None and not inherited)


def read_class_names(path: str) -> tuple[str, ...]:
    """The names in a text file, one a line, in the order of their numbers.

    Raises:
      OSError, ValueError: if it cannot be read, is empty, or has a name twice.
    """
    names = tuple(line.strip() for line in lines_of(read_text(path)) if line.strip())
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        wrong = f"these come twice: {_some(twice)}" if twice else "it is empty"
        raise ValueError(f"{path} must name every class once, a line each; {wrong}")
    return names


def parse_label(text: str) -> int | str:
    """A class number, -1 for none, or a class name.

    Raises:
      ValueError: on another kind of number.
    """
    if re.fullmatch(r"[+-]?[0-9]+", text):
        number = int(text) if len(text) < 20 else MAX_CLASSES
        if number >= MAX_CLASSES:
            raise ValueError(f"is beyond {MAX_CLASSES - 1}; class numbers count from 0")
        return number
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError("is not an integer; number the classes from 0, or name them")
    return text


def number_labels(
    labels: Sequence[int | str], videos: Sequence[str], classes: Classes
) -> tuple[np.ndarray, dict[int, str]]:
    """Class numbers [N] int64 of all labels, and what is wrong with some: index -> message.

    Names that nobody has ordered are numbered in their sorted order.

    Args:
      labels: of N examples, as `parse_label` gives them.
      videos: what they are called.
      classes: what is known.

    Raises:
      ValueError: if there are names where the training data have numbers, or the other way round.
    """
    lost = {}
    if any(label != NO_LABEL for label in labels):
        lost = {
            i: f"label -1 of {videos[i]!r} is outside 0, 1, 2, ...; -1, for none, must be "
            "that of all or of no video"
            for i, label in enumerate(labels)
            if label == NO_LABEL
        }
    if any(isinstance(label, str) for label in labels):
        return _by_name(labels, videos, classes, lost | _mixed(labels, videos))
    training = classes.training
    if training is not None and training.numbered_by_name and max(labels, default=-1) >= 0:
        raise ValueError(
            "its labels are numbers, those of the training data are names "
            f"({_some(training.label_names)}); give names to both, or a classes.txt beside both"
        )
    top = MAX_CLASSES if classes.count is None else classes.count
    allowed = "0, 1, 2, ..." if classes.count is None else f"0..{top - 1}"
    outside = {
        i: f"label {label} of {videos[i]!r} is outside {allowed}; classes count from 0"
        for i, label in enumerate(labels)
        if label != NO_LABEL and not 0 <= label < top
    }
    return np.array(labels, np.int64), lost | outside


def _mixed(labels, videos) -> dict[int, str]:
    """Problems of the rarer kind, where there are names and numbers."""
    named = {i: isinstance(x, str) for i, x in enumerate(labels) if x != NO_LABEL}
    rare = sum(named.values()) * 2 <= len(named)  # whether names are
    other = next((i for i, is_name in named.items() if is_name != rare), None)
    if other is None:
        return {}
    kinds = {True: "a name", False: "a number"}
    return {
        i: f"label {labels[i]!r} of {videos[i]!r} is {kinds[rare]}, that of {videos[other]!r} "
        f"{kinds[not rare]}: {labels[other]!r}; give numbers or names, not both, and mark a "
        "heading with #"
        for i, is_name in named.items()
        if is_name == rare
    }


def _by_name(labels, videos, classes: Classes, problems) -> tuple[np.ndarray, dict]:
    training = classes.training
    found = sorted({label for label in labels if isinstance(label, str)})
    if classes.names is None and training is not None and training.num_classes:
        raise ValueError(
            f"its labels are names ({_some(found)}), those of the training data are numbers; give "
            "names to both, or a classes.txt beside both"
        )
    names = classes.names
    if names is None:
        names = tuple(found)
        if not problems:
            class_count("their names", names, classes.count, None)
    numbers = {name: i for i, name in enumerate(names)}
    for i, (label, video) in enumerate(zip(labels, videos, strict=True)):
        if isinstance(label, str) and i not in problems and label not in numbers:
            problems[i] = (
                f"label {label!r} of {video!r} is no known class; {_nearest(label, names)}"
            )
    return np.array([numbers.get(label, NO_LABEL) for label in labels], np.int64), problems


def count_classes(numbers: np.ndarray, where: str) -> int:
    """Classes of labels whose number nobody has given: the largest plus one; unused ones are told.

    Args:
      numbers: [N] int64.
      where: what the labels are called.

    Raises:
      ValueError: if nearly all of very many classes have no video.
    """
    count = int(numbers.max(initial=NO_LABEL)) + 1
    unused = np.setdiff1d(np.arange(count), numbers)
    if not len(unused):
        return count
    from_one = unused.tolist() == [0]
    remedy = "subtract 1 from every label" if from_one else "number the classes 0, 1, 2, .."
    told = (
        f"the labels of {where} make {count} classes, {len(unused)} of them without a video: "
        f"{_some(unused.tolist())}; {remedy}, or set num_classes={count} if that is meant"
    )
    if len(unused) > 1000 and len(unused) > 0.9 * count:
        raise ValueError(told)
    log.warning("%s", told)
    return count


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the classes are {_some(names)}"


def _some(values: Sequence) -> str:
    more = f", .. ({len(values)} in all)" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more
