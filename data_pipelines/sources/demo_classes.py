"""The demo corpus with classes of several features at once, such as motion and digit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.demo.captions import DIGITS
from data_pipelines.sources.records import Record
from data_pipelines.sources.rows import Rows


class DemoClasses(Rows):
    """Every clip, under a class for each combination of features, the last one counted fastest."""

    def __init__(self, clips, examples: Sequence[dict[str, Any]], names: dict[str, Sequence[str]]):
        """Names the classes.

        Args:
          clips: the catalog to label anew.
          examples: the corpus's own, one for each clip, with the features.
          names: of the values of each feature, see `feature_names`.
        """
        super().__init__(clips, range(len(clips)))
        self._examples, self._names = examples, names
        self.num_classes = math.prod(map(len, names.values()))
        grid = np.stack(np.meshgrid(*names.values(), indexing="ij"), -1)
        self.label_names = tuple(" ".join(row) for row in grid.reshape(self.num_classes, -1))

    def __getitem__(self, index: int) -> Record:
        """Clip `index` under its class."""
        label = self._label(self._examples[range(len(self))[index]])
        return dataclasses.replace(super().__getitem__(index), label=label)

    def labels(self) -> np.ndarray:
        """Class number of every clip, [len] int64; decodes no video."""
        return np.array([self._label(example) for example in self._examples], np.int64)

    def _label(self, example: dict[str, Any]) -> int:
        values = [int(example[feature]) for feature in self._names]
        return int(np.ravel_multi_index(values, [len(names) for names in self._names.values()]))


def feature_names(features: Any, wanted: Sequence[str]) -> dict[str, Sequence[str]]:
    """What the values of some features of the corpus are called."""
    return {key: DIGITS if key == "digit" else features[key].names for key in wanted}
