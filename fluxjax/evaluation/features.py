"""Frozen features of a split's videos, for probes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fluxjax.evaluation.passes import Passes, mean_over_views
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid


class Features(NamedTuple):
    """Features and classes of the videos of a split that can be read.

    Attributes:
      values: [N, E] float32, the mean over the views of each video.
      labels: [N] int32.
      videos: of the split, those that cannot be read too.
      unreadable: numbers of this process's examples that cannot be read.
    """

    values: np.ndarray
    labels: np.ndarray
    videos: int
    unreadable: np.ndarray


class FeatureReader:
    """`task.features` of every video of a split at one grid and budget."""

    def __init__(self, passes: Passes):
        """Reads through `passes`."""
        self._passes = passes

    def read(
        self, variables: Any, grid: Grid, plan: Plan, split: str, videos: int | None = None
    ) -> Features:
        """The features; the same on every process.

        Args:
          variables: of the task's model.
          grid: sampling grid of the clips.
          plan: how to run the model on it.
          split: train or test.
          videos: this many, evenly spaced; None: all.

        Raises:
          ValueError: if no video of the split can be read.
        """
        run = self._passes.run(self._features, {"features": plan}, grid, variables, split, videos)
        rows = [outputs["features"].value for outputs in run]
        weight, readable, labels, values = (
            np.concatenate(part) for part in zip(*rows, strict=True)
        )
        kept = (weight > 0) & readable
        if not kept.any():
            raise ValueError(f"none of the {split} videos can be read; see quarantine.jsonl")
        return Features(values[kept], labels[kept], int((weight > 0).sum()), run.unreadable)

    def _features(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        values = self._passes.task.features(variables, clips, plan)
        values = mean_over_views(values, videos, views)
        return batch["weight"], batch["readable"], batch["label"], values
