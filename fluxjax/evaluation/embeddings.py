"""Embeddings of a split's videos, and of texts, in the space that a task shares between them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fluxjax.evaluation.passes import Passes, mean_over_views
from fluxjax.models.layers import unit
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid


class VideoEmbeddings(NamedTuple):
    """Of every video of a split, in order.

    Attributes:
      values: budget -> [N, E] float32, unit norm; the mean over the views of each video.
      readable: [N] bool.
      views: of a video.
      unreadable: numbers of this process's examples that cannot be read.
    """

    values: Mapping[int | None, np.ndarray]
    readable: np.ndarray
    views: int
    unreadable: np.ndarray


class EmbeddingReader:
    """`task.embed_video` and `task.embed_text` of all that there is; the same on every process."""

    def __init__(self, passes: Passes):
        """Reads through `passes`."""
        self._passes = passes

    def videos(
        self, variables: Any, grid: Grid, plans: Mapping[int | None, Plan], split: str = "test"
    ) -> VideoEmbeddings:
        """Embeds every video of a split at every plan.

        Args:
          variables: of the task's model.
          grid: sampling grid of the clips.
          plans: budget -> how to run the model.
          split: train or test.
        """
        run = self._passes.run(self._embed_videos, plans, grid, variables, split)
        values: dict[int | None, list[np.ndarray]] = {budget: [] for budget in plans}
        readable = []
        for outputs in run:
            for budget, output in outputs.items():
                real, here, rows = output.value
                values[budget].append(rows[real])
            readable.append(here[real])
        joined = {budget: np.concatenate(rows) for budget, rows in values.items()}
        return VideoEmbeddings(joined, np.concatenate(readable), run.views, run.unreadable)

    def texts(self, variables: Any, grid: Grid, plan: Plan, texts: Sequence[str]) -> np.ndarray:
        """[M, E] float32, unit norm.

        Raises:
          ValueError: if the task's examples have no text.
        """
        task = self._passes.task
        spec = task.eval_example(grid).text
        if spec is None:
            raise ValueError(
                f"the examples of task {task.config.task!r} have no text; evaluators of texts need "
                "a task that embeds them"
            )
        return self._passes.texts(self._embed_texts, plan, spec, texts, variables)

    def _embed_videos(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        values = embed_views(self._passes.task, variables, clips, plan, videos, views)
        return batch["weight"] > 0, batch["readable"], values

    def _embed_texts(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> jax.Array:
        return unit(self._passes.task.embed_text(variables, batch, plan))


def embed_views(
    task: Task, variables: Any, clips: Mapping[str, jax.Array], plan: Plan, videos: int, views: int
) -> jax.Array:
    """Clips [videos * views, ..] -> [videos, E] float32: the unit vector of the views' mean."""
    values = unit(task.embed_video(variables, clips, plan))
    return unit(mean_over_views(values, videos, views))
