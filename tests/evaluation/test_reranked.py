"""Re-ranked retrieval and multiple choice on a toy space, against what NumPy says of every pair."""

import logging

import numpy as np
import pytest

from fluxjax.evaluation import matching, progress
from fluxjax.evaluation.matching import Pairs
from fluxjax.evaluation.questions import MultipleChoice
from fluxjax.evaluation.reranked import Reranked, nearest, reorder
from fluxjax.training.mesh import make_mesh
from tests.evaluation.toy_space import (
    BAD,
    CAPTIONS,
    LABELS,
    TEXTS,
    VIDEOS,
    WIDTH,
    ToyData,
    ToyTask,
)

TASK, DATA, COUNT = ToyTask(), ToyData(), 4


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def tables_by_hand(budget):
    """Cosines and logits, [N, M] each, of all videos and texts."""
    kept = np.arange(WIDTH) < WIDTH - (budget == 1)
    encoded = DATA.encode(TEXTS, None)
    words = TASK.table[encoded["text"]]
    videos = unit(unit(DATA.embeddings * kept).mean(axis=1))
    inside = np.arange(3) < encoded["text_length"][:, None]
    said = np.tanh(np.sum(words * inside[..., None], axis=1))
    return videos @ unit(words[:, 0]).T, (3 * DATA.embeddings * kept).mean(axis=1) @ said.T


def ranks_by_hand(cosines, logits, right):
    """Of the best right answer: the first COUNT by cosine in order of logits, then the others."""
    found = []
    for query, answers in enumerate(right):
        order = list(np.argsort(-cosines[query], kind="stable"))
        order[:COUNT] = sorted(order[:COUNT], key=lambda i: -logits[query, i])
        found.append(1 + min((order.index(i) for i in answers), default=len(order)))
    return np.array(found)


@pytest.mark.parametrize("texts", [16, 2])
@pytest.mark.parametrize("budget", [2, 1])
def test_the_nearest_are_ordered_by_the_matching_head(monkeypatch, budget, texts):
    monkeypatch.setattr(matching, "TEXTS", texts)
    monkeypatch.setattr(matching, "GROUPS", 1)
    monkeypatch.setattr(matching, "ENCODED", 5)
    table = Reranked(TASK, make_mesh(), DATA).run({})
    assert set(Reranked.scalars(TASK)) == set(table.scalars)
    kept = np.arange(VIDEOS) != BAD
    cosines, logits = (x[kept] for x in tables_by_hand(budget))
    right_texts = [
        [TEXTS.index(t) for t in said] for i, said in enumerate(CAPTIONS) if i != BAD
    ]  # fmt: skip
    right_videos = [[v for v, said in enumerate(right_texts) if t in said] for t in range(9)]
    of_videos = [*ranks_by_hand(cosines, logits, right_texts), len(TEXTS) + 1]
    of_texts = ranks_by_hand(cosines.T, logits.T, right_videos)
    changed = False
    for direction, ranks in (("video", of_videos), ("text", of_texts)):
        rows = [r for r in table.rows if (r["direction"], r["budget"]) == (direction, budget)]
        matched, contrast = sorted(rows, key=lambda row: row["order"], reverse=True)
        assert (matched["order"], contrast["order"]) == ("top 4", "contrast")
        for k in (1, 5, 10):
            assert matched[f"recall_at_{k}"] == np.mean(np.array(ranks) <= k), (direction, k)
        assert matched["mean_rank"] == np.mean(ranks)
        changed |= matched["mean_rank"] != contrast["mean_rank"]
        assert table.scalars[f"{direction}_r1_{budget}@2x28"] == matched["recall_at_1"]
        first = table.scalars[f"contrast_{direction}_r1_{budget}@2x28"]
        assert first == contrast["recall_at_1"]
    assert table.unreadable == (f"video {BAD}",) and changed
    asked = {(v, t) for v in range(12) for t in np.argsort(-cosines[v])[:COUNT]}
    asked |= {(v, t) for t in range(9) for v in np.argsort(-cosines[:, t])[:COUNT]}
    assert matched["pairs"] == len(asked) < 12 * COUNT + 9 * COUNT, "each pair once"


@pytest.mark.parametrize("budget", [2, 1])
def test_multiple_choice_weighs_matching_and_contrast(budget):
    table = MultipleChoice(TASK, make_mesh(), DATA).run({})
    assert set(MultipleChoice.scalars(TASK)) == set(table.scalars)
    cosines, logits = tables_by_hand(budget)
    options = np.array([[TEXTS.index(t) for t in said] for said in DATA.catalog("test").options()])
    asked = lambda table: np.take_along_axis(table, options, axis=1)  # noqa: E731
    near = np.exp(asked(cosines) / 0.5)
    scores = 0.7 / (1 + np.exp(-2 * asked(logits))) + 0.3 * near / near.sum(axis=1, keepdims=True)
    right = scores.argmax(axis=1) == LABELS
    right[BAD] = False
    assert table.scalars[f"accuracy_{budget}@2x28"] == right.mean() and 0 < right.mean() < 1
    (row,) = [row for row in table.rows if row["budget"] == budget]
    assert row["low"] < right.mean() < row["high"] and row["options"] == 4
    assert table.unreadable == (f"video {BAD}",) and table.videos == VIDEOS


def test_nearest_and_new_order_of_equals():
    queries, candidates = np.array([[1.0], [-1.0]]), np.array([[2.0], [3.0], [2.0], [1.0]])
    np.testing.assert_array_equal(nearest(queries, candidates, 3), [[1, 0, 2], [3, 0, 2]])
    assert nearest(queries, candidates, 9).shape == (2, 4)
    scores = np.array([[0.0, 1.0, 1.0], [5.0, 5.0, 5.0]])
    candidates = np.array([[1, 2, 0], [3, 0, 2]])
    first = np.array([7, 8])
    np.testing.assert_array_equal(reorder(first, candidates, scores, [[2, 1], [2]]), [2, 2])
    np.testing.assert_array_equal(reorder(first, candidates, scores, [[3], []]), [7, 8])


def test_pairs_are_matched_once_in_order():
    pairs = Pairs.of(np.array([2, 0, 2, 0]), np.array([1, 3, 1, 0]))
    np.testing.assert_array_equal(np.stack(pairs), [[0, 0, 2], [0, 3, 1]])
    np.testing.assert_array_equal(
        pairs.find(np.array([[2], [0]]), np.array([[1], [3]])), [[2], [1]]
    )


def test_it_refuses_a_dual_softmax_and_tasks_without_a_matching_head(monkeypatch):
    TASK.config.eval.dual_softmax = 0.1
    try:
        with pytest.raises(ValueError, match=r"dual_softmax=0\.1 has no effect on"):
            Reranked(TASK, make_mesh(), DATA)
    finally:
        TASK.config.eval.dual_softmax = None
    monkeypatch.delattr(ToyTask, "match")
    with pytest.raises(ValueError, match="needs a task that matches pairs"):
        Reranked(TASK, make_mesh(), DATA)


def test_long_work_says_how_long_it_will_go_on(monkeypatch, caplog):
    clock = iter([0.0, 10.0, 40.0, 40.0, 40.0]).__next__
    monkeypatch.setattr(progress.time, "perf_counter", clock)
    with caplog.at_level(logging.INFO, logger="fluxjax.evaluation.progress"):
        work = progress.Progress("12x224: videos", 200)
        work.add(30)
        work.add(50)
    (line,) = caplog.messages
    assert line == "12x224: videos 80 of 200, 2.0 a second, 1:00 left"
