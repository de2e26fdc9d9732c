"""Some records of a catalog."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.sources.records import Catalog, Record


class Rows(Catalog):
    """Some records of a catalog."""

    def __init__(self, catalog: Catalog, rows: Sequence[int]):
        self._catalog, self._rows = catalog, np.asarray(rows, np.int64)
        self.num_classes, self.label_names = catalog.num_classes, catalog.label_names
        self.numbered_by_name = catalog.numbered_by_name

    def __len__(self) -> int:
        """How many records were taken."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Record `index` of these."""
        return self._catalog[int(self._rows[index])]

    def name(self, index: int) -> str:
        """See `Catalog.name`."""
        return self._catalog.name(int(self._rows[index]))

    def has_file(self, index: int) -> bool:
        """See `Catalog.has_file`."""
        return self._catalog.has_file(int(self._rows[index]))

    def labels(self) -> np.ndarray:
        """Class number of every record, [len] int64."""
        return self._catalog.labels()[self._rows]

    def weights(self) -> np.ndarray | None:
        """See `Catalog.weights`."""
        weights = self._catalog.weights()
        return None if weights is None else weights[self._rows]

    def groups(self) -> np.ndarray:
        """Group of every record, [len] int64, see `Catalog.groups`."""
        return self._catalog.groups()[self._rows]


def some(catalog: Catalog, count: int | None) -> Catalog:
    """`count` records of a catalog, evenly spaced; all of them for None or where there are fewer.

    Raises:
      ValueError: if the count is not positive.
    """
    if count is not None and count < 1:
        raise ValueError(f"the number of videos must be at least 1, not {count}")
    if count is None or count >= len(catalog):
        return catalog
    return Rows(catalog, np.linspace(0, len(catalog) - 1, count).round().astype(int).tolist())
