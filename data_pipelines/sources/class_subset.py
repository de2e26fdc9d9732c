"""A catalog cut down to some of its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_pipelines.sources.records import Catalog, Record


class ClassSubset(Catalog):
    """The records of some classes, numbered 0, 1, .. in the order in which these are given.

    Attributes:
      whole: the catalog that they are taken from.
    """

    def __init__(self, catalog: Catalog, classes: Sequence[str | int]):
        """Finds the records.

        Args:
          catalog: to take them from; its labels are read once, in full.
          classes: names or numbers, each once.

        Raises:
          ValueError: if there is no such class, one is given twice, or none has a record.
        """
        self.whole = catalog
        chosen = [_number(catalog, name) for name in classes]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"classes {tuple(classes)} name a class twice")
        self._renumbered = {label: i for i, label in enumerate(chosen)}
        self._index = np.flatnonzero(np.isin(catalog.labels(), chosen))
        if not len(self._index):
            raise ValueError(f"no record has a label among classes {tuple(classes)}")
        self.num_classes = len(chosen)
        names = catalog.label_names
        self.label_names = None if names is None else tuple(names[label] for label in chosen)

    def __len__(self) -> int:
        """How many records are left."""
        return len(self._index)

    def __getitem__(self, index: int) -> Record:
        """Record `index` of those left, under its new label."""
        record = self.whole[int(self._index[index])]
        return dataclasses.replace(record, label=self._renumbered[record.label])

    def name(self, index: int) -> str:
        """See `Catalog.name`."""
        return self.whole.name(int(self._index[index]))

    def has_file(self, index: int) -> bool:
        """See `Catalog.has_file`."""
        return self.whole.has_file(int(self._index[index]))

    def labels(self) -> np.ndarray:
        """New class numbers [len] int64."""
        old = self.whole.labels()[self._index]
        return np.array([self._renumbered[int(label)] for label in old], np.int64)

    def weights(self) -> np.ndarray | None:
        """See `Catalog.weights`."""
        weights = self.whole.weights()
        return None if weights is None else weights[self._index]

    def groups(self) -> np.ndarray:
        """Group of every record [len] int64, see `Catalog.groups`."""
        return self.whole.groups()[self._index]


def _number(catalog: Catalog, name: str | int) -> int:
    names = catalog.label_names or ()
    if isinstance(name, int) and 0 <= name < catalog.num_classes:
        return name
    if name in names:
        return names.index(name)
    known = f"{', '.join(names[:20])}, or " if names else ""
    raise ValueError(
        f"there is no class {name!r}; give {known}numbers from 0 to {catalog.num_classes - 1}"
    )
