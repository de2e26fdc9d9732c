"""Evaluators of videos and texts on a toy space, against what NumPy says of the same embeddings."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipelines.sources.records import Catalog, Relevancy
from fluxjax.evaluation.epic_kitchens import MultiInstanceRetrieval, VerbsNounsActions
from fluxjax.evaluation.multi_instance import average_precision, ndcg
from fluxjax.evaluation.registry import make_evaluators
from fluxjax.evaluation.retrieval import Retrieval
from fluxjax.evaluation.zero_shot import ZeroShot
from fluxjax.tasks.base import Plan
from fluxjax.training.mesh import make_mesh

VIDEOS, VIEWS, WIDTH, BATCH, BAD = 13, 2, 6, 8, 4
TEXTS = [f"caption {i}" for i in range(9)]
CAPTIONS = [(TEXTS[i % 9],) if i % 3 else (TEXTS[i % 9], TEXTS[(i + 4) % 9]) for i in range(VIDEOS)]
ACTIONS = ("0:0", "0:2", "1:2", "3:0")
LABELS = np.arange(VIDEOS) % 4


class ToyCatalog(Catalog):
    num_classes, label_names = 4, ACTIONS

    def __len__(self):
        return VIDEOS

    def name(self, index):
        return f"video {index}"

    def labels(self):
        return LABELS

    def captions(self):
        return CAPTIONS

    def relevancy(self):
        values = np.random.default_rng(5).choice([0.0, 0.3, 1.0], (VIDEOS, len(TEXTS)))
        return Relevancy(tuple(TEXTS), values.astype(np.float32))


class ToyData:
    """Batches whose clips are embeddings already: [videos, views, WIDTH]."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.embeddings = rng.standard_normal((VIDEOS, VIEWS, WIDTH)).astype(np.float32)

    def eval_batches(self, spec, split="test", videos=None):
        for start in range(0, VIDEOS, BATCH):
            example = np.arange(start, start + BATCH)
            real = example < VIDEOS
            readable = real & (example != BAD)
            clips = np.zeros((BATCH, VIEWS, WIDTH), np.float32)
            clips[readable] = self.embeddings[example[readable]]
            yield {
                "video": clips, "example": example, "weight": real.astype(np.float32),
                "readable": readable,
                "label": np.where(readable, LABELS[np.minimum(example, VIDEOS - 1)], -1),
            }  # fmt: skip

    def catalog(self, split):
        return ToyCatalog()

    def encode(self, texts, spec):
        ids = np.array([[sum(map(ord, text)) % 64] for text in texts], np.int32)
        return {"text": ids, "text_length": np.ones(len(texts), np.int32)}


class ToyTask:
    """Budget 1 leaves out the last number of each embedding."""

    def __init__(self):
        self.config = ConfigDict({"task": "toy"})
        self.config.eval = {
            "grids": ("2x28",), "batch_size": BATCH, "dual_softmax": None, "prompts": ("{}",),
            "evaluators": ("retrieval",),
        }  # fmt: skip
        rng = np.random.default_rng(1)
        self.table = rng.standard_normal((64, WIDTH)).astype(np.float32)
        self.head = rng.standard_normal((WIDTH, 4)).astype(np.float32)

    def eval_example(self, grid):
        return types.SimpleNamespace(text="spec")

    def eval_plans(self, grid):
        return {2: Plan("eval", 2), 1: Plan("eval", 1)}

    def embed_video(self, variables, batch, plan):
        kept = jnp.arange(WIDTH) < WIDTH - (plan.budget == 1)
        return 3 * batch["video"] * kept

    def embed_text(self, variables, batch, plan):
        return 5 * jnp.asarray(self.table)[batch["text"][:, 0]]

    def predict(self, variables, batch, plan):
        return 3 * batch["video"] @ self.head


TASK, DATA = ToyTask(), ToyData()


def table_of(kind):
    return kind(TASK, make_mesh(), DATA).run({})


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(budget):
    """Videos [N, E] and texts [M, E]; the row of the bad video means nothing."""
    kept = np.arange(WIDTH) < WIDTH - (budget == 1)
    ids = DATA.encode(TEXTS, None)["text"][:, 0]
    return unit(unit(DATA.embeddings * kept).mean(axis=1)), unit(TASK.table[ids])


@pytest.mark.parametrize("budget", [2, 1])
def test_retrieval_in_both_directions(budget):
    table = table_of(Retrieval)
    videos, texts = by_hand(budget)
    scores = videos @ texts.T
    to_text, to_video = [], []
    for i, said in enumerate(CAPTIONS):
        order = [TEXTS[j] for j in np.argsort(-scores[i])]
        found = 1 + min(order.index(text) for text in said)
        to_text.append(found if i != BAD else len(TEXTS) + 1)
    for j, text in enumerate(TEXTS):
        order = [i for i in np.argsort(-scores[:, j]) if i != BAD]
        right = [order.index(i) for i in order if text in CAPTIONS[i]]
        to_video.append(1 + min(right) if right else VIDEOS)
    for direction, ranks in (("text", to_video), ("video", to_text)):
        (row,) = [r for r in table.rows if (r["direction"], r["budget"]) == (direction, budget)]
        ranks = np.array(ranks)
        for k in (1, 5, 10):
            assert row[f"recall_at_{k}"] == np.mean(ranks <= k)
        assert (row["median_rank"], row["mean_rank"]) == (np.median(ranks), ranks.mean())
        assert table.scalars[f"{direction}_r1_{budget}_2x28"] == row["recall_at_1"]
    assert (row["videos"], row["unreadable"], row["views"]) == (VIDEOS, 1, VIEWS)
    assert table.unreadable == (f"video {BAD}",)


def test_the_dual_softmax_is_an_option():
    plain = table_of(Retrieval).rows
    try:
        TASK.config.eval.dual_softmax = 0.05
        dual = table_of(Retrieval).rows
    finally:
        TASK.config.eval.dual_softmax = None
    assert [r["mean_rank"] for r in plain] != [r["mean_rank"] for r in dual]
    assert dual[0]["dual_softmax"] == 0.05


def test_videos_without_captions_are_an_error(monkeypatch):
    monkeypatch.setattr(ToyCatalog, "captions", lambda self: [*CAPTIONS[:-1], ()])
    with pytest.raises(ValueError, match=f"test video {VIDEOS - 1} has no caption"):
        table_of(Retrieval)


def test_multi_instance_retrieval_leaves_out_what_cannot_be_read():
    videos, texts = by_hand(2)
    kept = np.arange(VIDEOS) != BAD
    values = ToyCatalog().relevancy().values[kept]
    scores = videos[kept] @ texts.T
    (row,) = [r for r in table_of(MultiInstanceRetrieval).rows if r["budget"] == 2]
    for way, s, r in (("v2t", scores, values), ("t2v", scores.T, values.T)):
        assert row[f"map_{way}"] == pytest.approx(np.nanmean(average_precision(s, r)))
        assert row[f"ndcg_{way}"] == pytest.approx(np.nanmean(ndcg(s, r)))
    assert row["map_mean"] == (row["map_v2t"] + row["map_t2v"]) / 2
    assert (row["videos"], row["unreadable"]) == (VIDEOS, 1)


def test_multi_instance_retrieval_needs_relevancies(monkeypatch):
    monkeypatch.setattr(ToyCatalog, "relevancy", lambda self: None)
    TASK.config.data = {"test": "val.jsonl"}
    with pytest.raises(ValueError, match="config.data.test='val.jsonl' must be EPIC_100"):
        table_of(MultiInstanceRetrieval)


def test_zero_shot_takes_the_class_with_the_nearest_text():
    try:
        TASK.config.eval.prompts = ("{}", "a video of {}")
        (row,) = [r for r in table_of(ZeroShot).rows if r["budget"] == 2]
    finally:
        TASK.config.eval.prompts = ("{}",)
    texts = [f.format(name) for name in ACTIONS for f in ("{}", "a video of {}")]
    embedded = unit(TASK.table[DATA.encode(texts, None)["text"][:, 0]])
    classes = unit(embedded.reshape(4, 2, WIDTH).mean(axis=1))
    right = (by_hand(2)[0] @ classes.T).argmax(axis=1) == LABELS
    right[BAD] = False
    assert row["top1"] == right.mean() and 0 < row["top1"] < 1
    assert row["top5"] == (VIDEOS - 1) / VIDEOS and row["prompts"] == 2


def test_zero_shot_needs_names_and_places_for_them(monkeypatch):
    TASK.config.eval.prompts = ("a video",)
    with pytest.raises(ValueError, match="'a video' must hold {} once"):
        table_of(ZeroShot)
    TASK.config.eval.prompts = ("{}",)
    monkeypatch.setattr(ToyCatalog, "label_names", None)
    with pytest.raises(ValueError, match="zero_shot needs names of the classes"):
        table_of(ZeroShot)


@pytest.mark.parametrize("way", ["logits", "probabilities"])
def test_verbs_and_nouns_are_sums_of_actions(way):
    (row,) = [
        r for r in table_of(VerbsNounsActions).rows
        if r["budget"] == 2 and r["views_averaged"] == way
    ]  # fmt: skip
    logits = 3 * DATA.embeddings @ TASK.head
    softmax = lambda x: np.asarray(jax.nn.softmax(x, axis=-1))  # noqa: E731
    p = softmax(logits.mean(axis=1)) if way == "logits" else softmax(logits).mean(axis=1)
    verbs = np.stack([p[:, 0] + p[:, 1], p[:, 2], 0 * p[:, 0], p[:, 3]], axis=1)
    nouns = np.stack([p[:, 0] + p[:, 3], 0 * p[:, 0], p[:, 1] + p[:, 2]], axis=1)
    for key, scores, labels in (
        ("action", p, LABELS),
        ("verb", verbs, np.array([0, 0, 1, 3])[LABELS]),
        ("noun", nouns, np.array([0, 2, 2, 0])[LABELS]),
    ):
        right = scores.argmax(axis=1) == labels
        right[BAD] = False
        assert row[f"{key}_top1"] == right.mean(), key
    right = (p.argmax(axis=1) == LABELS) & (np.arange(VIDEOS) != BAD)
    assert row["mean_class"] == pytest.approx(
        np.mean([right[LABELS == c].mean() for c in range(4)])
    )
    assert (row["action_top5"], row["unreadable"]) == ((VIDEOS - 1) / VIDEOS, 1)


def test_they_are_found_by_name():
    TASK.config.eval.evaluators = ("retrieval", "zero_shot", "ek100_mir", "ek100_cls")
    kinds = [type(e).__name__ for e in make_evaluators(TASK, make_mesh(), DATA)]
    assert kinds == ["Retrieval", "ZeroShot", "MultiInstanceRetrieval", "VerbsNounsActions"]
