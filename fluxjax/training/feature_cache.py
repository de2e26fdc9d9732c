"""Training and evaluating on cached features: the frozen tower runs once for each clip and view."""

from __future__ import annotations

import hashlib
import logging
import pathlib
import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from fluxjax.tasks.base import Task
from fluxjax.tokens.examples import ExampleSpec
from fluxjax.tokens.grids import Grid
from fluxjax.training import mesh as meshes
from fluxjax.training.progress import LOG_SECONDS

if TYPE_CHECKING:
    from data_pipelines.clips.feature_store import FeatureStore
    from data_pipelines.from_config import VideoData
    from data_pipelines.sources.records import Catalog

log = logging.getLogger(__name__)

HostBatch = Mapping[str, np.ndarray]


class CachedData:
    """A `VideoData` whose batches hold features in the place of pixels.

    Features are computed on first use, for the views of `config.features` in training and of
    `config.eval` in testing, and kept under `config.features.dir`.
    """

    def __init__(self, data: VideoData, task: Task, mesh: jax.sharding.Mesh, variables: Any):
        """Wraps `data`; `variables` are the task's, with the frozen parameters in their places.

        Raises:
          ValueError: in a program of several processes.
        """
        if jax.process_count() > 1:
            raise ValueError(
                "config.features.dir works in one process only; leave it out on several hosts"
            )
        self.train, self.test, self.bad = data.train, data.test, data.bad
        self._data, self._task, self._mesh, self._variables = data, task, mesh, variables
        self._hash = _hash_of(task, variables)

    def train_batches(self, spec: ExampleSpec, first_step: int) -> Generator[HostBatch, None, None]:
        """As `VideoData.train_batches`."""
        from data_pipelines import loader
        from data_pipelines.clips.feature_store import CachedTrainClips

        config = self._task.config
        views = config.features.clips, config.features.crops
        store = self._store("train", spec, views)
        clips = CachedTrainClips(store, self.train, config.seed, config.batch_size)
        steps = first_step, config.total_steps
        return loader.train_batches(clips, *steps, workers=config.data.workers)

    def eval_batches(
        self, spec: ExampleSpec, split: str = "test", videos: int | None = None
    ) -> Generator[HostBatch, None, None]:
        """As `VideoData.eval_batches`.

        Raises:
          ValueError: if only some of the videos are asked for.
        """
        from data_pipelines import loader
        from data_pipelines.clips.feature_store import CachedEvalClips

        config = self._task.config
        if videos is not None:
            raise ValueError("cached features are read whole: set config.probe.videos=0")
        store = self._store(split, spec, (config.eval.clips, config.eval.crops))
        clips = CachedEvalClips(store, self.catalog(split))
        return loader.eval_batches(clips, config.eval.batch_size, workers=config.data.workers)

    def catalog(self, split: str) -> Catalog:
        """The videos of train or test."""
        return self._data.catalog(split)

    def _store(self, which: str, spec: ExampleSpec, views: tuple[int, int]) -> FeatureStore:
        """The store of a split and grid, filled."""
        from data_pipelines.clips.examples import EvalExamples
        from data_pipelines.clips.feature_store import FeatureStore
        from data_pipelines.sources.rows import Rows

        data, catalog, grid = self._task.config.data, self.catalog(which), spec.clips[0].grids[0]
        shapes = self._task.feature_spec(grid)
        manifest = {
            "weights": self._hash,
            "videos_of": [data[which], data[f"{which}_split"], data.root, _digest(data[which])],
            "grid": str(grid),
            "sampling": data.sampling,
            **({"square_pixels": True} if data.square_pixels else {}),  # as keys were before
            "clips": views[0],
            "crops": views[1],
        }
        store = FeatureStore(
            self._task.config.features.dir,
            manifest,
            len(catalog),
            views[0] * views[1],
            {name: (x.shape, x.dtype.name) for name, x in shapes.items()},
        )
        rows = store.missing()
        clips = EvalExamples(
            Rows(catalog, rows),
            spec,
            self.bad,
            data.sampling,
            *views,
            seconds=data.decode_seconds,
            square_pixels=data.square_pixels,
        )
        log.info("features of %s %s: %d of %d videos to compute, in %s",
                 which, grid, len(rows), len(catalog), store.directory)  # fmt: skip
        if len(rows):
            self._fill(store, clips, rows, grid)
        return store

    def _fill(self, store: FeatureStore, clips: Any, rows: np.ndarray, grid: Grid) -> None:
        from data_pipelines import loader

        config = self._task.config

        @jax.jit
        def compute(variables, batch):
            videos, views = batch["patches"].shape[:2]
            merged = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
            features = self._task.frozen_features(variables, merged, grid)
            return {name: x.reshape(videos, views, *x.shape[1:]) for name, x in features.items()}

        done, logged = 0, time.perf_counter()
        size = config.eval.batch_size
        for batch in loader.eval_batches(clips, size, workers=config.data.workers):
            placed = meshes.put_batch({k: batch[k] for k in ("patches", "grid")}, self._mesh)
            features = jax.device_get(compute(self._variables, placed))
            real = batch["weight"] > 0
            done += int(real.sum())
            taken = {name: x[real] for name, x in features.items()}
            store.write(rows[batch["example"][real]], batch["label"][real], taken)
            if time.perf_counter() - logged > LOG_SECONDS:
                logged = time.perf_counter()
                log.info("%d of %d videos", done, len(rows))


def _hash_of(task: Task, variables: Any) -> str:
    """Of the frozen parameters and of the fields that tell what is done with them."""
    model = task.model
    fields = {name: getattr(model, name) for name in model.feature_fields}
    digest = hashlib.sha256(repr((type(model).__name__, fields)).encode())
    flat = {"/".join(path): value for path, value in flatten_dict(variables["params"]).items()}
    for path in sorted(flat):
        if model.frozen(path.split("/")):
            digest.update(path.encode() + np.asarray(flat[path]).tobytes())
    return digest.hexdigest()


def _digest(source: str) -> str | None:
    """Of a list file's content: names stay when lines change."""
    path = pathlib.Path(source)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
