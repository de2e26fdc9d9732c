"""Multi-instance retrieval of EPIC-KITCHENS-100: mAP and nDCG of graded relevancies.

After the challenge's evaluation code (Damen et al., arXiv 2006.13256, and Wray et al., arXiv
2103.10095), as AVION runs it; how it breaks ties included.
"""

from typing import NamedTuple

import numpy as np

CHUNK = 256  # queries at a time


class Scores(NamedTuple):
    """Of every query, [Q] float64; NaN where the measure is not defined for it.

    Attributes:
      precision: average precision; needs a candidate of relevancy 1.
      gain: normalised discounted cumulative gain; needs a candidate of relevancy above 0.
    """

    precision: np.ndarray
    gain: np.ndarray


def score(
    queries: np.ndarray, candidates: np.ndarray, relevancy: np.ndarray, chunk: int = CHUNK
) -> Scores:
    """Both measures of every query by inner products, `chunk` queries at a time.

    Args:
      queries: [Q, E] float.
      candidates: [C, E] float.
      relevancy: [Q, C] in 0..1; may be a memory map.
      chunk: queries at a time.
    """
    parts = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ candidates.T
        relevant = np.asarray(relevancy[start : start + chunk], np.float64)
        parts.append((average_precision(similarity, relevant), ndcg(similarity, relevant)))
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))


def average_precision(similarity: np.ndarray, relevancy: np.ndarray) -> np.ndarray:
    """[Q] float64, NaN for queries without a candidate of relevancy 1.

    A candidate counts as found if its relevancy is 1, but the precision at its rank is the mean of
    the *fractional* relevancies down to there, as the challenge's code has it. Of equal
    similarities the lower candidate comes first.

    Args:
      similarity, relevancy: [Q, C].
    """
    order = np.argsort(-similarity, axis=1, kind="stable")
    ranked = np.take_along_axis(relevancy, order, axis=1).astype(np.float64)
    precision = np.cumsum(ranked, axis=1) / np.arange(1, ranked.shape[1] + 1)
    found = ranked == 1
    with np.errstate(invalid="ignore"):
        return np.sum(precision * found, axis=1) / np.sum(found, axis=1)


def ndcg(similarity: np.ndarray, relevancy: np.ndarray) -> np.ndarray:
    """[Q] float64, down to rank K, a query's number of relevancies above 0; NaN where K is 0.

    Of equal similarities the *higher* candidate comes first: the challenge's code reverses an
    ascending order.

    Args:
      similarity, relevancy: [Q, C].
    """
    order = np.argsort(similarity, axis=1, kind="stable")[:, ::-1]
    ranked = np.take_along_axis(relevancy, order, axis=1).astype(np.float64)
    ideal = -np.sort(-relevancy.astype(np.float64), axis=1)
    places = np.arange(relevancy.shape[1])
    counted = places < np.count_nonzero(relevancy, axis=1)[:, None]
    weight = counted / np.log2(places + 2)
    with np.errstate(invalid="ignore"):
        return np.sum(ranked * weight, axis=1) / np.sum(ideal * weight, axis=1)
