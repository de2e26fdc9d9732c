"""Retrieval in two rounds: the nearest by contrast, put in order by a matching head (UMT, ALBEF).

Source: OpenGVLab/unmasked_teacher, multi_modality, tasks/retrieval_utils.py (evaluation).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.evaluation.base import Column, EvalData, names_on_grids
from fluxjax.evaluation.matching import Matcher, Pairs
from fluxjax.evaluation.retrieval import (
    COLUMNS,
    Partners,
    Ranks,
    Retrieval,
    Space,
    contrast_ranks,
)
from fluxjax.evaluation.retrieval_metrics import CHUNK
from fluxjax.tasks.base import Task


class Reranked(Retrieval):
    """Of every query the `config.eval.rerank` nearest candidates, ordered by the matching head.

    The score of the second round takes the place of the first, as in the release. Candidates beyond
    those keep the order of the first round behind them; the release ties them. Rows of both
    rounds are given. A pair that both directions ask for is matched once.
    """

    name, splits = "reranked", ("test",)
    columns = (*COLUMNS[:3], Column("order", lambda row: row["order"]), *COLUMNS[3:])
    title = "re-ranked retrieval"

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet.

        Raises:
          ValueError: if the task matches no pairs, or a dual softmax is asked for.
        """
        super().__init__(task, mesh, data)
        if not hasattr(task, "match"):
            raise ValueError(
                f"evaluator 'reranked' needs a task that matches pairs, such as 'retrieve'; "
                f"{task.config.task!r} does not"
            )
        if task.config.eval.dual_softmax is not None:
            raise ValueError(
                f"config.eval.dual_softmax={task.config.eval.dual_softmax} has no effect on "
                "evaluator 'reranked'; set it to None"
            )
        self._matcher = Matcher(self._passes, data)

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """text_r1 and video_r1 of the matching head, and both of contrast, of every row."""
        names = ("text_r1", "video_r1", "contrast_text_r1", "contrast_video_r1")
        return names_on_grids(task, *names)

    @staticmethod
    def _scalar(row: Mapping[str, Any]) -> str:
        first = "contrast_" * (row["order"] == "contrast")
        return f"{first}{row['direction']}_r1"

    def _rank(
        self, variables: Any, space: Space, partners: Partners
    ) -> Iterator[tuple[Mapping[str, Any], Ranks]]:
        count = self._task.config.eval.rerank
        contrast = contrast_ranks(space, partners)
        of_videos = nearest(space.videos, space.embedded, count)
        of_texts = nearest(space.embedded, space.videos, count)
        pairs = np.concatenate([_pairs(of_videos), _pairs(of_texts)[:, ::-1]])
        pairs = Pairs.of(partners.videos[pairs[:, 0]], pairs[:, 1])
        grid, plan = space.grid, space.plan
        states = self._matcher.texts(variables, grid, plan, space.texts)
        logits = self._matcher.logits(variables, grid, plan, pairs, states)[:, 1]

        def reranked(first, candidates, right, video, text):
            return reorder(first, candidates, logits[pairs.find(video, text)], right)

        numbers = partners.videos
        matched = Ranks(
            reranked(contrast.text, of_texts, partners.right_videos,
                     numbers[of_texts], np.arange(len(of_texts))[:, None]),
            reranked(contrast.video, of_videos, partners.right_texts,
                     numbers[:, None], of_videos),
        )  # fmt: skip
        yield {"order": f"top {count}", "pairs": len(logits)}, matched
        yield {"order": "contrast", "pairs": 0}, contrast


def _pairs(nearest: np.ndarray) -> np.ndarray:
    """[Q, K] candidates of queries -> [Q * K, 2], query and candidate."""
    queries = np.repeat(np.arange(len(nearest)), nearest.shape[1])
    return np.stack([queries, nearest.reshape(-1)], axis=1)


def nearest(queries: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """The nearest candidates, [Q, min(count, C)] int64, nearest first; of equal ones the lower.

    Args:
      queries: [Q, E] float; scores are inner products.
      candidates: [C, E] float.
      count: how many.
    """
    found = [np.zeros((0, min(count, len(candidates))), np.int64)]
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ candidates.T
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def reorder(
    first: np.ndarray,
    candidates: np.ndarray,
    scores: np.ndarray,
    right: Sequence[Sequence[int]],
) -> np.ndarray:
    """Ranks of the best right answers once the first candidates are in order of their scores.

    Args:
      first: [Q] int64 ranks of the first round; they stay where no right answer is a candidate.
      candidates: [Q, K] int64.
      scores: [Q, K] float, theirs; of equal ones the lower candidate comes first.
      right: for every query the numbers of its right answers.
    """
    ranks = first.copy()
    for query, (row, line) in enumerate(zip(candidates, scores, strict=True)):
        places = np.flatnonzero(np.isin(row[np.lexsort((row, -line))], right[query]))
        if len(places):
            ranks[query] = places[0] + 1
    return ranks
