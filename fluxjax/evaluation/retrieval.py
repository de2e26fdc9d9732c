"""Retrieval between videos and their captions: R@k, median and mean rank in both directions."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table
from fluxjax.evaluation.embeddings import EmbeddingReader
from fluxjax.evaluation.passes import Passes
from fluxjax.evaluation.retrieval_metrics import ranks, summary
from fluxjax.tasks.base import Task
from fluxjax.tokens.grids import Grid

COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column("queries", lambda row: row["direction"]),
    *(
        Column(f"R@{k}", lambda row, k=k: f"{row[f'recall_at_{k}']:.1%}")
        for k in (1, 5, 10)
    ),
    Column("median rank", lambda row: f"{row['median_rank']:g}"),
    Column("mean rank", lambda row: f"{row['mean_rank']:.1f}"),
)  # fmt: skip


class Retrieval:
    """Every distinct caption finds its videos, every video its captions, on every grid and budget.

    A query is answered by the first right one of all candidates. A video that cannot be read is
    never found, and finds nothing: it counts as wrong, at the last rank.
    """

    name, splits = "retrieval", ("test",)

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)
        self._reader, self._data = EmbeddingReader(self._passes), data

    def run(self, variables: Any) -> Table:
        """Two rows, texts and videos as queries, for every budget on every grid.

        Raises:
          ValueError: if a video has no caption.
        """
        texts, captions = number_captions(self._data.catalog("test").captions())
        rows, unreadable = [], np.zeros(0, np.int64)
        for grid in self._passes.grids():
            found, bad = self._run_grid(variables, grid, texts, captions)
            rows += found
            unreadable = np.union1d(unreadable, bad)
        return Table(
            name=self.name,
            file=self.name,
            title=f"retrieval among {len(captions)} videos and {len(texts)} captions",
            columns=COLUMNS,
            rows=tuple(rows),
            scalars={
                f"{row['direction']}_r1_{row['budget']}_{row['grid']}": row["recall_at_1"]
                for row in rows
            },
            videos=len(captions),
            unreadable=self._passes.names("test", unreadable),
        )

    def _run_grid(self, variables: Any, grid: Grid, texts, captions) -> tuple[list, np.ndarray]:
        plans = self._task.eval_plans(grid)
        videos = self._reader.videos(variables, grid, plans)
        embedded = self._reader.texts(variables, grid, next(iter(plans.values())), texts)
        readable = np.flatnonzero(videos.readable)
        of_text: list[list[int]] = [[] for _ in texts]  # numbers among the readable videos
        for place, video in enumerate(readable):
            for text in captions[video]:
                of_text[text].append(place)
        right = [captions[video] for video in readable]
        temperature = self._task.config.eval.dual_softmax
        rows = []
        for budget, values in videos.values.items():
            values = values[readable]
            to_videos = ranks(embedded, values, of_text, temperature)
            to_texts = ranks(values, embedded, right, temperature)
            lost = np.full(len(captions) - len(readable), len(texts) + 1)
            to_texts = np.concatenate([to_texts, lost])
            rows += [
                {"budget": budget, "grid": str(grid), "direction": direction,
                 **summary(found), "queries": len(found), "candidates": candidates,
                 "dual_softmax": temperature, "views": videos.views, "videos": len(captions),
                 "unreadable": len(lost)}
                for direction, found, candidates in (
                    ("text", to_videos, len(captions)), ("video", to_texts, len(texts)),
                )
            ]  # fmt: skip
        return rows, videos.unreadable


def number_captions(
    captions: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], list[list[int]]]:
    """The distinct captions as first met, and for every video the numbers of its own.

    Raises:
      ValueError: if a video has none.
    """
    numbers: dict[str, int] = {}
    for video, said in enumerate(captions):
        if not said:
            raise ValueError(
                f"test video {video} has no caption; retrieval needs captions of all (an "
                "annotation file with the key caption, or demo:captions)"
            )
        for text in said:
            numbers.setdefault(text, len(numbers))
    return tuple(numbers), [[numbers[text] for text in said] for said in captions]
