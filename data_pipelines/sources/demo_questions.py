"""The captioned demo corpus with questions in the place of its captions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.demo.questions import KINDS, ask
from data_pipelines.sources.records import Catalog, Record


class DemoQuestions(Catalog):
    """A record for each question about each clip, clip by clip; the label is the motion."""

    def __init__(self, clips: Catalog, examples: Sequence[dict[str, Any]], kinds: Sequence[str],
                 motions: Sequence[str], photos: Sequence[str]):  # fmt: skip
        """Asks about clips.

        Args:
          clips: their records.
          examples: the corpus's own, with digit, photo and label.
          kinds: of questions, see `KINDS`.
          motions, photos: names by their numbers.
        """
        self._clips, self._examples, self._kinds = clips, examples, tuple(kinds)
        self._motions, self._photos = motions, photos
        self.num_classes, self.label_names = clips.num_classes, clips.label_names

    def __len__(self) -> int:
        """Clips times questions about each."""
        return len(self._clips) * len(self._kinds)

    def __getitem__(self, index: int) -> Record:
        """Question `index`, with its clip."""
        clip, kind = divmod(range(len(self))[index], len(self._kinds))
        question, answer = self._ask(self._examples[clip], kind)
        return dataclasses.replace(self._clips[clip], captions=(question,), answers=(answer,))

    def labels(self) -> np.ndarray:
        """Motion of every question's clip, [len] int64."""
        return np.repeat(self._clips.labels(), len(self._kinds))

    def captions(self) -> list[tuple[str, ...]]:
        """The question of every record; decodes no video."""
        return [(question,) for question, _ in self._all()]

    def answers(self) -> list[tuple[str, ...]]:
        """The answer of every record; decodes no video."""
        return [(answer,) for _, answer in self._all()]

    def _all(self) -> list[tuple[str, str]]:
        kinds = range(len(self._kinds))
        return [self._ask(example, kind) for example in self._examples for kind in kinds]

    def _ask(self, example: dict[str, Any], kind: int) -> tuple[str, str]:
        return ask(
            self._kinds[kind],
            self._motions[int(example["label"])],
            int(example["digit"]),
            self._photos[int(example["photo"])],
        )


def kinds_of(text: str) -> tuple[str, ...]:
    """Kinds of questions by name, "all" for all.

    Raises:
      ValueError: on an unknown kind.
    """
    if text != "all" and text not in KINDS:
        raise ValueError(f"ask={text!r}: known are {', '.join(KINDS)} and all")
    return KINDS if text == "all" else (text,)
