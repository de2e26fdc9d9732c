"""Videos and texts as unit vectors of the space that a checkpoint's task shares between them."""

import collections
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from data_pipelines.clips.examples import clip_arrays
from data_pipelines.clips.views import eval_views
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.records import Record
from fluxjax.evaluation.embeddings import embed_views
from fluxjax.models.layers import unit
from fluxjax.serving.checkpoint import Checkpoint, open_checkpoint
from fluxjax.serving.run_config import config_of, evaluate_on, set_vocabulary
from fluxjax.tasks import Task, create_task
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid, parse_grid

VIDEOS, TEXTS = 8, 64  # in a batch


class Embedder:
    """Runs the task's `embed_video` and `embed_text`, as evaluators of retrieval do.

    Attributes:
      checkpoint: what is run.
      task: of its run, or the one that runs such a model.
      grid: of every clip.
      plan: the budget, where the model has any.
      sampling: name of the frame sampler.
      clips, crops: temporal and spatial views of a video.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        task: Task,
        grid: Grid,
        plan: Plan,
        sampling: str,
        clips: int,
        crops: int,
    ):
        """See `open_embedder`; nothing is compiled yet."""
        self.checkpoint, self.task, self.grid, self.plan = checkpoint, task, grid, plan
        self.sampling, self.clips, self.crops = sampling, clips, crops
        self._example = task.eval_example(grid)
        self._of_videos = jax.jit(functools.partial(_of_videos, task, plan))
        self._of_texts = jax.jit(functools.partial(_of_texts, task, plan))

    def __str__(self) -> str:
        budget = "" if self.plan.budget is None else f", {self.plan.budget} tokens"
        views = f"{self.clips} x {self.crops} views"
        return f"clips of {self.grid}{budget}, {views}, frames {self.sampling}"

    def videos(
        self, records: Iterable[Record | VideoError], batch_size: int = VIDEOS, workers: int = 2
    ) -> Iterator[np.ndarray | VideoError]:
        """Of each record [E] float32, or why it has none, in order; errors are passed on.

        Args:
          records: what to read, met as batches are filled; one batch is read ahead.
          batch_size: videos run at once.
          workers: decoding threads.
        """
        records, waiting = iter(records), collections.deque()
        with ThreadPoolExecutor(workers) as pool:
            while chunk := list(itertools.islice(records, batch_size)):
                waiting.append([pool.submit(self._views, record) for record in chunk])
                if len(waiting) > 1:
                    yield from self._embedded(waiting.popleft(), batch_size)
            while waiting:
                yield from self._embedded(waiting.popleft(), batch_size)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """[M, E] float32.

        Raises:
          ValueError, OSError: if the vocabulary is not named, cannot be read or does not fit.
        """
        from data_pipelines.text.kinds import tokenizer  # only where there is text

        spec = self._example.text
        if not spec.tokenizer:
            raise ValueError(
                f"{self.checkpoint.folder} does not say how texts become token ids; name its "
                "vocabulary by --vocabulary"
            )
        made = tokenizer(spec.kind, spec.tokenizer)
        if spec.ids is not None and made.vocab_size > spec.ids:
            raise ValueError(
                f"{spec.tokenizer} has {made.vocab_size} ids, the model knows {spec.ids}; give the "
                "model's own by --vocabulary"
            )
        rows = []
        for start in range(0, len(texts), TEXTS):
            chunk = texts[start : start + TEXTS]
            ids, lengths = zip(*(made.encode(text, spec.length) for text in chunk), strict=True)
            size = min(len(texts), TEXTS)  # of all batches: the last one is filled up
            batch = {"text": _filled(np.stack(ids), size), "text_length": _filled(lengths, size)}
            found = self._of_texts(self.checkpoint.variables, batch)
            rows.append(np.asarray(found)[: len(chunk)])
        return np.concatenate(rows)

    def _embedded(self, read, size: int) -> Iterator[np.ndarray | VideoError]:
        read = [future.result() for future in read]
        good = [item for item in read if not isinstance(item, VideoError)]
        rows = iter(())
        if good:
            batch = {name: _filled([item[name] for item in good], size) for name in good[0]}
            rows = iter(np.asarray(self._of_videos(self.checkpoint.variables, batch)))
        for item in read:
            yield item if isinstance(item, VideoError) else next(rows)

    def _views(self, record: Record | VideoError) -> dict[str, np.ndarray] | VideoError:
        """The arrays of the example's clips, each with a leading axis [views]."""
        if isinstance(record, VideoError):
            return record
        data, arrays = self.task.config.data, {}
        try:
            for spec in self._example.clips:
                views = eval_views(
                    record, spec.grids[0], spec.sampling or self.sampling, self.clips, self.crops,
                    seconds=data.decode_seconds, square_pixels=data.square_pixels,
                    places=self.checkpoint.places,
                )  # fmt: skip
                arrays |= clip_arrays(spec, views)
        except VideoError as error:
            return error
        return arrays


def open_embedder(
    path: str | os.PathLike,
    *,
    grid: str | None = None,
    budget: int | None = None,
    sampling: str | None = None,
    clips: int | None = None,
    crops: int | None = None,
    vocabulary: str | None = None,
) -> Embedder:
    """Opens a training run or an inference checkpoint.

    Args:
      path: of its folder.
      grid: FRAMESxPIXELS; None: the first that the run was evaluated on.
      budget: tokens kept a view, of a model that has budgets; None: the largest.
      sampling: of frames; None: as in the run's evaluation, like `clips` and `crops`.
      clips, crops: temporal and spatial views of a video.
      vocabulary: path of that of texts; None: the run's.

    Raises:
      FileNotFoundError, WeightsError, ValueError: naming what is wrong, and the remedy.
    """
    checkpoint = open_checkpoint(path)
    config = config_of(checkpoint)
    sampled = parse_grid(grid) if grid else checkpoint.default_grid()
    evaluate_on(config, checkpoint, (str(sampled),))
    if vocabulary:
        set_vocabulary(config, vocabulary)
    if budget is not None:
        config.eval.budgets = (budget,)
    task = create_task(config)
    if not (hasattr(task, "embed_video") and hasattr(task, "embed_text")):
        raise ValueError(
            f"{checkpoint.folder} is a {type(task.model).__name__} of task {config.task!r}: it has "
            "no text tower, and no space that videos and texts share (python -m fluxjax.predict "
            "--embed writes the features of a classifier)"
        )
    patch = getattr(task.model, "patch", 1)
    if sampled.resolution % patch:
        raise ValueError(f"grid {sampled} must have pixels that are a multiple of {patch}")
    plans = task.eval_plans(sampled)
    if budget is not None and budget not in plans:
        known = [str(key) for key in plans if key is not None]
        raise ValueError(
            f"--budget={budget}: "
            + (f"{sampled} has {known[0]} tokens" if known else "the model has no token budgets")
        )
    plan = plans[next(iter(plans)) if budget is None else budget]
    return Embedder(
        checkpoint, task, sampled, plan, checkpoint.sampling(sampling),
        *checkpoint.views(clips, crops),
    )  # fmt: skip


def _filled(rows: Sequence[Any], size: int) -> np.ndarray:
    """Stacked, with the last row again up to `size`, so that one program serves all batches."""
    rows = list(rows)
    return np.stack(rows + rows[-1:] * (size - len(rows)))


def _of_videos(task: Task, plan: Plan, variables: Any, batch: Mapping[str, jax.Array]):
    videos, views = next(iter(batch.values())).shape[:2]
    clips = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
    return embed_views(task, variables, clips, plan, videos, views)


def _of_texts(task: Task, plan: Plan, variables: Any, batch: Mapping[str, jax.Array]):
    return unit(task.embed_text(variables, batch, plan))
