"""Features of videos on disk: one row a video and view, written once, read at random.

DIRECTORY/<key>/manifest.json   what the features were computed from, shapes and dtypes
DIRECTORY/<key>/<name>.npy      [videos, views, ..], memory-mapped
DIRECTORY/<key>/label.npy       [videos] int32; NOT_YET before the row is written, UNREADABLE

The key is a hash of the manifest: other weights, videos or views never meet in one folder. A row
counts once its label is written, which happens after its features; an interrupted run goes on with
the rows that are missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.clips import seeding
from data_pipelines.clips.seeding import Stream
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.records import Catalog

Item = dict[str, np.ndarray]

NOT_YET, UNREADABLE = -2, -1
MAX_REPLACEMENTS = 10  # videos tried for one place of a batch


class FeatureStore:
    """The features of every video of a catalog, at a fixed number of views."""

    def __init__(
        self,
        directory: str | os.PathLike,
        manifest: Mapping[str, Any],
        videos: int,
        views: int,
        shapes: Mapping[str, tuple[tuple[int, ...], str]],
    ):
        """Opens the store of a manifest, or makes an empty one.

        Args:
          directory: of all stores.
          manifest: JSON values that the features depend on.
          videos: rows.
          views: of each.
          shapes: name -> (shape of one view's features, numpy dtype).

        Raises:
          ValueError: if the folder holds arrays of other shapes.
        """
        arrays = {name: [list(shape), dtype] for name, (shape, dtype) in shapes.items()}
        manifest = {**manifest, "videos": videos, "views": views, "arrays": arrays}
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.directory = pathlib.Path(directory) / key
        self.directory.mkdir(parents=True, exist_ok=True)
        self.views, self.names = views, tuple(sorted(shapes))
        self._arrays = {
            name: self._open(name, (videos, views, *shape), dtype, fill=None)
            for name, (shape, dtype) in shapes.items()
        }
        self.labels = self._open("label", (videos,), "int32", fill=NOT_YET)
        # Last: a folder without it was left while being made, and is filled from the start.
        (self.directory / "manifest.json").write_text(text, encoding="utf-8")

    def _open(self, name: str, shape: tuple[int, ...], dtype: str, fill: int | None) -> np.ndarray:
        path = self.directory / f"{name}.npy"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            array = np.lib.format.open_memmap(temporary, "w+", np.dtype(dtype), shape)
            if fill is not None:
                array[:] = fill
            array.flush()
            temporary.replace(path)
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise ValueError(
                f"{path} holds {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}; "
                "delete the folder to have it written again"
            )
        return array

    def missing(self) -> np.ndarray:
        """Rows that are not written yet, ascending."""
        return np.flatnonzero(self.labels == NOT_YET)

    def write(self, rows: np.ndarray, labels: np.ndarray, features: Mapping[str, Any]) -> None:
        """Writes rows: labels [n] (negative: unreadable), features [n, views, ..] each."""
        for name, array in self._arrays.items():
            array[rows] = features[name]
            array.flush()
        self.labels[rows] = np.maximum(labels, UNREADABLE)
        self.labels.flush()

    def read(self, row: int, views: int | slice) -> Item:
        """Features of one view [..], or of several [n, ..], in memory."""
        return {name: np.array(array[row, views]) for name, array in self._arrays.items()}


@dataclasses.dataclass(frozen=True)
class CachedTrainClips:
    """Training items from a store, by position; a random view of each video an epoch.

    The order is that of `examples.TrainExamples`; unreadable videos are replaced likewise.
    """

    store: FeatureStore
    catalog: Catalog
    seed: int
    videos_per_batch: int

    def __post_init__(self):
        order = seeding.order(self.seed, len(self.catalog), self.catalog.weights())
        object.__setattr__(self, "_order", order)

    def item(self, position: int) -> Item:
        """Features [1, ..] of each name, label [1] int32, example [1] int64.

        Raises:
          VideoError: if no readable video is found.
        """
        epoch, example = self._order.at(position)
        for attempt in range(MAX_REPLACEMENTS):
            label = int(self.store.labels[example])
            if label >= 0:
                view = seeding.rng(self.seed, epoch, example, Stream.FRAMES).integers(
                    self.store.views
                )
                item = self.store.read(example, int(view)) | {
                    "label": np.int32(label), "example": np.int64(example)
                }  # fmt: skip
                return {name: np.asarray(value)[None] for name, value in item.items()}
            replacement = seeding.rng(self.seed, epoch, example, attempt, Stream.REPLACEMENT)
            example = int(replacement.integers(len(self.catalog)))
        raise VideoError(
            f"row {example} of {self.store.directory}",
            f"and {MAX_REPLACEMENTS - 1} videos drawn in its place could not be read",
        )


@dataclasses.dataclass(frozen=True)
class CachedEvalClips:
    """Test items from a store: every view of a video, as `examples.EvalExamples` gives them."""

    store: FeatureStore
    catalog: Catalog

    def item(self, index: int) -> Item:
        """Features [views, ..] of each name; label, weight, readable and example scalars.

        An index beyond the catalog gives padding of weight 0.
        """
        real = index < len(self.catalog)
        row = index if real else 0
        label = self.store.labels[row] if real else UNREADABLE
        return self.store.read(row, slice(None)) | {
            "label": np.int32(label),
            "weight": np.float32(real),
            "readable": np.bool_(label > UNREADABLE),
            "example": np.int64(index),
        }
