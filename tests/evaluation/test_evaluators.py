"""Every evaluator on a tiny task, against what NumPy says of the same logits and features."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from data_pipelines.from_config import VideoData
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.array_records import ArrayCatalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.evaluation.classification import columns
from fluxjax.evaluation.registry import make_evaluators, register_evaluator, splits_read
from fluxjax.tasks import create_task
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid
from fluxjax.training.mesh import make_mesh
from tests import tiny

BAD = 3  # number of the unreadable test video
TRAIN, TEST = 12, 11


class Unreadable(ArrayVideo):
    def read(self, indices, **options):
        raise VideoError("broken.mp4", "damaged")


@functools.cache
def setting():
    """A task, its variables and data: two views a video, one test video that cannot be read."""
    config = tiny.get_config()
    config.eval.grids, config.eval.budgets = ("4x28", "2x28"), (8, 4)
    config.eval.clips, config.eval.batch_size = 2, 8
    config.probe.k = 3
    task = create_task(config)
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (9 + i, 28, 28, 3), np.uint8) for i in range(TRAIN + TEST)]
    labels = [i % 4 for i in range(TRAIN + TEST)]
    test = [ArrayVideo(video, name=f"video {i}") for i, video in enumerate(videos[TRAIN:])]
    test[BAD] = Unreadable(videos[TRAIN + BAD], name="broken.mp4")
    data = VideoData(
        ArrayCatalog(videos[:TRAIN], labels[:TRAIN], 4),
        ArrayCatalog(test, labels[TRAIN:], 4),
        BadVideos(1.0),
        config,
    )
    return task, jax.jit(task.init)(jax.random.key(1)), data


def table_of(name):
    task, variables, data = setting()
    task.config.eval.evaluators = (name,)
    (evaluator,) = make_evaluators(task, make_mesh(), data)
    return evaluator.run(variables)


@functools.cache
def by_hand(split, grid, budget):
    """(logits [V, views, K], features [V, E], labels [V]) of readable videos, without batches."""
    task, variables, data = setting()
    catalog = data.catalog(split)
    rows = []
    for batch in data.eval_batches(task.eval_example(grid), split):
        for i in np.flatnonzero((batch["weight"] > 0) & batch["readable"]):
            clips = {name: batch[name][i] for name in ("patches", "grid")}
            logits = task.predict(variables, clips, Plan("eval", budget))
            features = task.features(variables, clips, Plan("eval", budget))
            label = catalog[int(batch["example"][i])].label
            rows.append((np.asarray(logits), np.asarray(features).mean(axis=0), label))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("grid, budget", [("4x28", 8), ("4x28", 4), ("2x28", 4)])
def test_accuracies_are_those_of_the_mean_probabilities(grid, budget):
    table = table_of("classification")
    logits, _, labels = by_hand("test", Grid(*map(int, grid.split("x"))), budget)
    probabilities = np.asarray(jax.nn.softmax(logits, axis=-1)).mean(axis=1)
    (row,) = [r for r in table.rows if (r["grid"], r["budget"]) == (grid, budget)]
    right = (probabilities.argmax(axis=1) == labels).sum()
    assert len(labels) == TEST - 1
    assert row["top1"] == right / TEST, "the unreadable video counts as wrong"
    assert row["top5"] == (TEST - 1) / TEST
    assert (row["videos"], row["unreadable"], row["views"]) == (TEST, 1, 2)
    assert table.unreadable == ("array[3]",) and table.file == "evaluation"
    assert table.scalars[f"top1_{budget}@{grid}"] == row["top1"]


def test_top_5_is_shown_from_six_classes_on():
    heads = [[column.head for column in columns(count)] for count in (5, 6)]
    assert "top-5" not in heads[0] and "top-5" in heads[1]


def test_eval_grids_that_the_patch_does_not_divide_are_refused():
    config = tiny.get_config()
    config.eval.grids = ("4x57",)
    with pytest.raises(ValueError, match="4x57 must have pixels .* patch of 14, e.g. 4x56"):
        create_task(config)


def test_held_out_loss_is_the_mean_over_readable_videos():
    table = table_of("held_out")
    logits, _, labels = by_hand("test", Grid(4, 28), 8)
    log_probs = np.asarray(jax.nn.log_softmax(logits, axis=-1))
    losses = -log_probs[np.arange(len(labels)), :, labels].mean(axis=1)
    row = table.rows[0]
    assert (row["loss"], row["grid"], row["budget"]) == ("ce", "4x28", 8)
    np.testing.assert_allclose(row["mean"], losses.mean(), rtol=1e-5)
    assert (row["videos"], row["unreadable"], len(table.rows)) == (TEST, 1, 4)


def test_probes_read_features_of_both_splits():
    _, train, train_labels = by_hand("train", Grid(4, 28), 8)
    _, test, labels = by_hand("test", Grid(4, 28), 8)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    similar = unit(test) @ unit(train).T
    found = []
    for row in similar:
        votes = np.zeros(4)
        for neighbour in np.argsort(-row, kind="stable")[:3]:
            votes[train_labels[neighbour]] += np.exp((row[neighbour] - 1) / 0.07)
        found.append(votes.argmax())
    (row,) = table_of("knn").rows
    assert row["top1"] == np.sum(np.array(found) == labels) / TEST
    assert (row["train_videos"], row["videos"], row["unreadable"]) == (TRAIN, TEST, 1)


def test_a_probe_can_read_fewer_training_videos():
    task, _, _ = setting()
    task.config.probe.videos = 5
    try:
        assert table_of("linear_probe").rows[0]["train_videos"] == 5
    finally:
        task.config.probe.videos = 0


def test_evaluators_are_chosen_by_name():
    task, _, data = setting()
    task.config.eval.evaluators = ()
    assert splits_read(task) == ("test",), "the task's own: the table of accuracies"
    task.config.eval.evaluators = ("held_out", "knn")
    assert splits_read(task) == ("test", "train")
    task.config.eval.evaluators = ("acuracy",)
    with pytest.raises(ValueError, match="unknown evaluator 'acuracy'.*classification"):
        make_evaluators(task, make_mesh(), data)
    with pytest.raises(ValueError, match="there is an evaluator 'knn'"):
        register_evaluator("knn", object)


def test_videos_of_a_split_that_was_not_opened_are_an_error():
    _, _, data = setting()
    with pytest.raises(ValueError, match="train videos were not opened"):
        dataclasses.replace(data, train=None).catalog("train")
