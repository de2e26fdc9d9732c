"""Ranks of the right answers among all candidates, without the whole table of scores in memory."""

from collections.abc import Mapping, Sequence

import numpy as np

CHUNK = 256  # queries compared with all candidates at a time


def ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    right: Sequence[Sequence[int]],
    dual_softmax: float | None = None,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Rank of each query's best right candidate, [Q] int64 from 1.

    Of equal scores the lower candidate comes first, as NumPy's argmax has it, so a model that
    embeds everything alike gains nothing. A query without a right candidate has rank C + 1.

    Args:
      queries: [Q, E] float; scores are inner products.
      candidates: [C, E] float.
      right: for every query the numbers of its right candidates.
      dual_softmax: temperature T of the dual softmax (CAMoE, arXiv 2109.04290): a score s becomes
        s * softmax(s / T) over the queries, which knows that each candidate answers few of them.
        None: plain scores.
      chunk: queries at a time.
    """
    normaliser = None
    if dual_softmax is not None:
        normaliser = _log_sums(queries, candidates, dual_softmax, chunk)
    found = np.full(len(queries), len(candidates) + 1, np.int64)
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ candidates.T
        if normaliser is not None:
            scores = scores * np.exp(scores / dual_softmax - normaliser)
        for row, line in enumerate(scores, start):
            if not len(right[row]):
                continue
            answers = np.sort(np.asarray(right[row], np.int64))
            best = answers[np.argmax(line[answers])]
            ahead = np.count_nonzero(line > line[best])
            found[row] = 1 + ahead + np.count_nonzero(line[:best] == line[best])
    return found


def _log_sums(queries, candidates, temperature: float, chunk: int) -> np.ndarray:
    """[C] float: log of the sum over all queries of exp(score / temperature)."""
    total = np.full(len(candidates), -np.inf)
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ candidates.T / temperature
        total = np.logaddexp(total, np.logaddexp.reduce(scores, axis=0))
    return total


def summary(ranks: np.ndarray) -> Mapping[str, float]:
    """Shares of queries answered among the first 1, 5 and 10; median and mean rank."""
    recall = {f"recall_at_{k}": float(np.mean(ranks <= k)) for k in (1, 5, 10)}
    return recall | {"median_rank": float(np.median(ranks)), "mean_rank": float(np.mean(ranks))}
