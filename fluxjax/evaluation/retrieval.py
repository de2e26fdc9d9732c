"""Retrieval between videos and their captions: R@k, median and mean rank in both directions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fluxjax.evaluation.base import (
    BUDGET,
    Column,
    EvalData,
    Table,
    names_on_grids,
    scalar_name,
)
from fluxjax.evaluation.embeddings import EmbeddingReader
from fluxjax.evaluation.passes import Passes
from fluxjax.evaluation.retrieval_metrics import ranks, summary
from fluxjax.tasks.base import Plan, Task
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

    name, splits, columns = "retrieval", ("test",), COLUMNS
    title = "retrieval"

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)
        self._reader, self._data = EmbeddingReader(self._passes), data

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """text_r1 and video_r1, R@1 of each as queries, of every row."""
        return names_on_grids(task, "text_r1", "video_r1")

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
            title=f"{self.title} among {len(captions)} videos and {len(texts)} captions",
            columns=self.columns,
            rows=tuple(rows),
            scalars={
                scalar_name(self._scalar(row), row["budget"], row["grid"]): row["recall_at_1"]
                for row in rows
            },
            videos=len(captions),
            unreadable=self._passes.names("test", unreadable),
        )

    @staticmethod
    def _scalar(row: Mapping[str, Any]) -> str:
        return f"{row['direction']}_r1"

    def _run_grid(self, variables: Any, grid: Grid, texts, captions) -> tuple[list, np.ndarray]:
        plans = self._task.eval_plans(grid)
        videos = self._reader.videos(variables, grid, plans)
        embedded = self._reader.texts(variables, grid, next(iter(plans.values())), texts)
        partners = Partners.of(captions, len(texts), videos.readable)
        rows = []
        for budget, values in videos.values.items():
            space = Space(grid, plans[budget], values[partners.videos], embedded, texts)
            for told, found in self._rank(variables, space, partners):
                rows += partners.rows(
                    found, {"budget": budget, "grid": str(grid), **told, "views": videos.views}
                )
        return rows, videos.unreadable

    def _rank(
        self, variables: Any, space: "Space", partners: "Partners"
    ) -> Iterator[tuple[Mapping[str, Any], "Ranks"]]:
        """What a row says of a way to score, and the ranks by it."""
        del variables
        temperature = self._task.config.eval.dual_softmax
        yield {"dual_softmax": temperature}, contrast_ranks(space, partners, temperature)


class Space(NamedTuple):
    """Videos and texts that are searched.

    Attributes:
      grid, plan: of the videos.
      videos: [N, E] float32, unit norm, of those that can be read.
      embedded: [M, E] float32, unit norm, of texts.
      texts: M of them.
    """

    grid: Grid
    plan: Plan
    videos: np.ndarray
    embedded: np.ndarray
    texts: Sequence[str]


class Ranks(NamedTuple):
    """Of the best right answer, from 1: of texts [M], and of the videos that can be read [N]."""

    text: np.ndarray
    video: np.ndarray


class Partners(NamedTuple):
    """Which videos and texts belong together.

    Attributes:
      videos: [N] int, numbers of the videos that can be read among all.
      right_texts: for each of these, numbers of its texts.
      right_videos: for every text, places of its videos among these.
      all_videos: how many there are.
    """

    videos: np.ndarray
    right_texts: Sequence[Sequence[int]]
    right_videos: Sequence[Sequence[int]]
    all_videos: int

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]], texts: int, readable: np.ndarray) -> "Partners":
        """Of every video's texts, how many texts there are, and which videos can be read [bool]."""
        videos = np.flatnonzero(readable)
        right_videos: list[list[int]] = [[] for _ in range(texts)]
        for place, video in enumerate(videos):
            for text in captions[video]:
                right_videos[text].append(place)
        return cls(videos, [captions[video] for video in videos], right_videos, len(captions))

    def rows(self, found: Ranks, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a table, texts and videos as queries; what cannot be read is found last."""
        texts, lost = len(self.right_videos), self.all_videos - len(self.videos)
        of_videos = np.concatenate([found.video, np.full(lost, texts + 1)])
        return [
            {**told, "direction": direction, **summary(ranks), "queries": len(ranks),
             "candidates": candidates, "videos": self.all_videos, "unreadable": lost}
            for direction, ranks, candidates in (
                ("text", found.text, self.all_videos), ("video", of_videos, texts),
            )
        ]  # fmt: skip


def contrast_ranks(space: Space, partners: Partners, temperature: float | None = None) -> Ranks:
    """Ranks by the similarity of embeddings; `temperature` is of a dual softmax, see `ranks`."""
    return Ranks(
        ranks(space.embedded, space.videos, partners.right_videos, temperature),
        ranks(space.videos, space.embedded, partners.right_texts, temperature),
    )


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
