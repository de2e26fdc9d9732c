"""What a model answered for every video of a table, and what that says of every class."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers at one grid and budget, in the order of the data.

    Attributes:
      best: [N, k] int32, the most probable classes, best first; of equal ones the lower first.
      probability: [N, k] float32, theirs.
      label: [N] int32; -1 for videos that cannot be read.
      readable: [N] bool.
      classes: names of the classes, or None.
      num_classes: K.
      where: grid and budget, for titles.
    """

    best: np.ndarray
    probability: np.ndarray
    label: np.ndarray
    readable: np.ndarray
    classes: tuple[str, ...] | None
    num_classes: int
    where: str

    def name(self, number: int) -> str:
        """Of a class: its name, or its number where there are none."""
        return str(number) if self.classes is None else self.classes[number]

    def confusion(self) -> np.ndarray:
        """[K, K] int64: readable videos of class row that were taken for class column."""
        matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        kept = self.readable & (self.label >= 0)
        np.add.at(matrix, (self.label[kept], self.best[kept, 0]), 1)
        return matrix

    def per_class(self) -> list[dict[str, Any]]:
        """A row for every class, of the videos that can be read.

        class, name, videos, right, accuracy (None without videos), and the class that it was most
        often taken for instead, with how often ("" and 0 where it never was).
        """
        rows = []
        for number, counts in enumerate(self.confusion()):
            videos, right = int(counts.sum()), int(counts[number])
            others = counts.copy()
            others[number] = 0
            other = int(others.argmax())
            rows.append(
                {
                    "class": number,
                    "name": self.name(number),
                    "videos": videos,
                    "right": right,
                    "accuracy": right / videos if videos else None,
                    "taken_for": self.name(other) if others[other] else "",
                    "times": int(others[other]),
                }
            )
        return rows

    def per_video(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A record for every video: its name, its class, and the best classes.

        Args:
          names: [N], of the videos.
        """
        for i, video in enumerate(names):
            record: dict[str, Any] = {"video": video, "readable": bool(self.readable[i])}
            if self.readable[i]:
                record |= {
                    "label": self.name(int(self.label[i])) if self.label[i] >= 0 else None,
                    "predicted": self.name(int(self.best[i, 0])),
                    "right": bool(self.best[i, 0] == self.label[i]),
                    "best": [
                        {"class": self.name(int(c)), "probability": round(float(p), 6)}
                        for c, p in zip(self.best[i], self.probability[i], strict=True)
                    ],
                }
            yield record
