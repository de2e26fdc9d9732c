"""Ranks with several right answers, ties, chunks and the dual softmax."""

import numpy as np
import pytest

from fluxjax.evaluation.retrieval_metrics import ranks, summary


def unit(rng, count, width=8):
    x = rng.standard_normal((count, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_best_of_several_right_answers_counts():
    candidates = np.eye(4, dtype=np.float32)
    queries = np.array([[4, 3, 2, 1], [1, 2, 3, 4], [1, 4, 2, 3]], np.float32)
    assert ranks(queries, candidates, [[1, 3], [0, 2], [1]]).tolist() == [2, 2, 1]
    assert ranks(queries, candidates, [[], [0], [3, 0]]).tolist() == [5, 4, 2]


def test_equal_scores_rank_the_lower_candidate_first():
    same = np.ones((5, 2), np.float32)
    assert ranks(same, same, [[i] for i in range(5)]).tolist() == [1, 2, 3, 4, 5]
    assert ranks(same[:1], same, [[4, 2]]).tolist() == [3]


@pytest.mark.parametrize("dual_softmax", [None, 0.05])
def test_against_the_whole_table(dual_softmax):
    rng = np.random.default_rng(0)
    queries, candidates = unit(rng, 61), unit(rng, 40)
    right = [rng.choice(40, rng.integers(1, 4), replace=False) for _ in range(61)]
    scores = (queries @ candidates.T).astype(np.float64)
    if dual_softmax:
        weight = np.exp(scores / dual_softmax)
        scores = scores * weight / weight.sum(axis=0)
    order = np.argsort(-scores, axis=1)
    expected = [
        1 + min(np.flatnonzero(order[i] == j)[0] for j in right[i]) for i in range(len(queries))
    ]
    for chunk in (1, 7, 61, 100):
        assert ranks(queries, candidates, right, dual_softmax, chunk).tolist() == expected


def test_the_dual_softmax_shares_out_a_candidate_that_pleases_all():
    """Candidate 0 is every query's first choice, but query 1's far more than query 0's."""
    queries, candidates = np.eye(2, dtype=np.float32), np.array([[0.6, 0.9], [0.5, 0.1]])
    assert ranks(queries, candidates, [[1], [0]]).tolist() == [2, 1]
    assert ranks(queries, candidates, [[1], [0]], dual_softmax=0.1).tolist() == [1, 1]


def test_summary():
    assert summary(np.array([1, 5, 10, 11])) == {
        "recall_at_1": 0.25, "recall_at_5": 0.5, "recall_at_10": 0.75, "median_rank": 7.5,
        "mean_rank": 6.75,
    }  # fmt: skip
