"""Visual tokens of videos, by the task of a checkpoint."""

import functools
import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fluxjax.serving.checkpoint import Checkpoint
from fluxjax.serving.embedder import Embedder, open_embedder
from fluxjax.serving.token_files import VideoTokens
from fluxjax.tasks import Task
from fluxjax.tasks.base import Plan


class TokenReader(Embedder):
    """An `Embedder` whose `videos` gives the `VideoTokens` of every view of a video."""

    def __init__(self, *settings: Any):
        """See `open_embedder`; nothing is compiled yet."""
        super().__init__(*settings)
        self._of_videos = jax.jit(functools.partial(_tokens_of_videos, self.task, self.plan))

    @staticmethod
    def check(checkpoint: Checkpoint, task: Task) -> None:
        """Refuses a model that does not return its tokens.

        Raises:
          ValueError: naming it.
        """
        returned = inspect.signature(type(task.model).__call__).parameters
        if not hasattr(task, "last_tokens") or "return_tokens" not in returned:
            raise ValueError(
                f"{checkpoint.folder} is a {type(task.model).__name__} of task "
                f"{task.config.task!r}, which does not return its tokens; FluxViT and Flux-CLIP do"
            )

    def _rows(self, batch: Mapping[str, np.ndarray]) -> Iterator[VideoTokens]:
        """Of each video of a batch."""
        found = jax.device_get(self._of_videos(self.checkpoint.variables, batch))
        return (VideoTokens.of(*(x[row] for x in found)) for row in range(len(found[0])))


def open_token_reader(path: str | os.PathLike, **settings: Any) -> TokenReader:
    """Opens a training run or an inference checkpoint; arguments are those of `open_embedder`.

    Raises:
      FileNotFoundError, WeightsError, ValueError: naming what is wrong, and the remedy.
    """
    return open_embedder(path, kind=TokenReader, **settings)


def _tokens_of_videos(task: Task, plan: Plan, variables: Any, batch: Mapping[str, jax.Array]):
    """Tokens, places, grids and validity, [videos, views, ..] each."""
    size = next(iter(batch.values())).shape[:2]
    clips = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
    tokens = task.last_tokens(variables, clips, plan)
    arrays = (tokens.values, tokens.position, tokens.grid, tokens.valid)
    return tuple(x.reshape(*size, *x.shape[1:]) for x in arrays)
