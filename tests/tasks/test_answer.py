"""Question answering as a task: loss, start, ranking, and both evaluators of questions."""

import functools
import json

import jax
import numpy as np
import optax
import pytest

import fluxjax
from data_pipelines.sources.records import Catalog
from fluxjax.config.keys import base_config
from fluxjax.evaluation.questions import AnswerAccuracy, MultipleChoice
from fluxjax.tasks import create_task
from fluxjax.tasks.answer_ranking import rank_answers
from fluxjax.tasks.umt_terms import Texts
from fluxjax.training.mesh import make_mesh
from tests.models.test_umt import SIZES, TEXT

ANSWERS = ("red", "green", "dark blue")
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "which",
    "red",
    "green",
    "dark",
    "blue",
    "grey",
)
COLOURS = ((220, 30, 30), (30, 200, 40), (20, 20, 120))


def config_of(task="answer", **own):
    config = base_config("umt_ti8", task=task)
    config.model.update(SIZES | TEXT | {"text_dropout": 0.0, "text_width": 32})
    config.grids.frames, config.grids.resolutions = (2,), (12,)
    config.eval.grids, config.eval.batch_size = ("2x12",), 8
    config[task].update({"vocabulary": "vocab.txt", "length": 6, "merge": (6, 0.2), **own})
    return config


def encoded(texts, length, ends=1):
    """Ids and lengths as the tokenizers of UMT give them."""
    ids = np.zeros((len(texts), length), np.int32)
    lengths = []
    for row, text in zip(ids, texts, strict=True):
        tokens = [2, *(WORDS.index(word) for word in text.split()), *[3] * ends]
        row[: len(tokens)] = tokens
        lengths.append(len(tokens))
    return ids, np.array(lengths, np.int32)


def questions():
    """Six clips of one of three colours, and the question which."""
    rng = np.random.default_rng(0)
    colours = np.array(COLOURS)[[0, 1, 2, 0, 1, 2]] + rng.integers(-20, 20, (6, 3))
    video = np.broadcast_to(colours[:, None, None, None], (6, 2, 12, 12, 3))
    text, length = encoded(["which"] * 6, 6)
    answer, answer_length = encoded([ANSWERS[i % 3] for i in range(6)], 5, 2)
    return {
        "video": np.clip(video, 0, 255).astype(np.uint8),
        "text": text, "text_length": length,
        "answer": answer[:, None], "answer_length": answer_length[:, None],
        "answer_weight": np.ones((6, 1), np.float32),
    }  # fmt: skip


class Asked(Catalog):
    """Which colour each of the six clips has; number 4 cannot be read."""

    def __len__(self):
        return 6

    def name(self, index):
        return f"video {index}"

    def answers(self):
        return [(ANSWERS[i % 3], "grey") for i in range(6)]

    def options(self):
        return [ANSWERS] * 6

    def labels(self):
        return np.arange(6) % 3


class Data:
    def eval_batches(self, spec, split="test", videos=None):
        batch = {
            name: np.pad(x, [(0, 2)] + [(0, 0)] * (x.ndim - 1)) for name, x in questions().items()
        }
        rows = np.arange(8)
        yield {
            "video": batch["video"][:, None], "text": batch["text"],
            "text_length": batch["text_length"], "example": rows,
            "weight": (rows < 6).astype(np.float32), "readable": (rows < 6) & (rows != 4),
        }  # fmt: skip

    def catalog(self, split):
        return Asked()

    def encode(self, texts, spec):
        ids, lengths = encoded(texts, spec.length, 2 if spec.kind == "bert_answer" else 1)
        return {"text": ids, "text_length": lengths}


def trained(task, batch, steps, rate=1e-3, enough=0.0):
    """Variables and loss after so many steps, or fewer once the loss is small enough."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    params = jax.jit(task.init)(jax.random.key(0))["params"]

    @jax.jit
    def step(params, state, key):
        loss = lambda p: task.loss({"params": p}, batch, key, task.plans()[0]).total  # noqa: E731
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(1), steps):
        params, state, value = step(params, state, key)
        if value < enough:
            break
    return {"params": params}, float(value)


@functools.cache
def answering():
    task = create_task(config_of())
    return task, *trained(task, questions(), 800, 3e-3, enough=0.1)


@pytest.mark.slow
def test_it_learns_to_answer_and_is_measured(tmp_path):
    task, variables, loss = answering()
    assert {n: (s.shape, s.dtype) for n, s in task.batch_spec(6).items()} == {
        n: (x.shape, x.dtype) for n, x in questions().items()
    }
    assert loss < 0.1
    table = AnswerAccuracy(task, make_mesh(), Data()).run(variables)
    (row,) = table.rows
    assert row["accuracy"] == 5 / 6 == table.scalars["accuracy@2x12"]  # one cannot be read
    assert table.unreadable == ("video 4",) and row["choices"] == 4  # grey as well
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(["green", "dark blue"]))
    task.config.answer.choices = str(path)
    try:
        (row,) = AnswerAccuracy(task, make_mesh(), Data()).run(variables).rows
        assert row["accuracy"] == 3 / 6 and row["choices"] == 2
        path.write_text("{}")
        with pytest.raises(ValueError, match="must be a JSON list of texts"):
            AnswerAccuracy(task, make_mesh(), Data())
    finally:
        task.config.answer.choices = ""


@pytest.mark.slow
def test_answers_in_parts_are_those_of_all_at_once():
    task, variables, _ = answering()
    ids, lengths = encoded(ANSWERS, 5, 2)
    choices = Texts(ids, (np.arange(5) < lengths[:, None]).astype(np.int32))
    apply = lambda method, *x, **o: task.model.apply(variables, *x, method=method, **o)  # noqa: E731
    batch = questions()
    tokens, _ = apply("encode_video", batch["video"], merge=task.merge)
    mask = (np.arange(6) < batch["text_length"][:, None]).astype(np.int32)
    states = apply("encode_question", batch["text"], mask, tokens)
    rank = functools.partial(rank_answers, task.model, variables)
    whole = rank(states, mask, *choices, 3)
    for chunk in (1, 2):
        part = rank(states, mask, *choices, 3, chunk=chunk)
        np.testing.assert_array_equal(part.ids, whole.ids)
        np.testing.assert_allclose(part.probabilities, whole.probabilities, atol=1e-6)


@pytest.mark.slow
def test_the_decoder_starts_from_the_layers_that_fuse(tmp_path):
    pretrained = fluxjax.create_model(
        "umt_ti8", None, **SIZES, **TEXT | {"text_width": 32}, token_head=True
    )
    clip = np.zeros((1, 2, 12, 12, 3), np.float32)
    stored = jax.jit(pretrained.init)(jax.random.key(3), clip)
    fluxjax.save(tmp_path / "model", pretrained, stored)
    task = create_task(config_of())
    assert task.model.answer_layers == 2 and task.model.embedding is None
    fresh = jax.jit(task.init)(jax.random.key(2))
    started = task.start_from(str(tmp_path / "model"), fresh)["params"]
    text = stored["params"]["text"]
    for ours, theirs in (("layers_0", "layers_1"), ("layers_1", "layers_2"), ("words", "words"),
                         ("transform", "transform"), ("token_bias", "token_bias")):  # fmt: skip
        jax.tree.map(np.testing.assert_array_equal, started["answers"][ours], text[theirs])
    assert set(started["answers"]) == set(fresh["params"]["answers"])
    np.testing.assert_array_equal(started["text"]["words"]["embedding"], text["words"]["embedding"])
    fluxjax.save(tmp_path / "answering", task.model, {"params": started})
    again = task.start_from(str(tmp_path / "answering"), fresh)["params"]
    jax.tree.map(np.testing.assert_array_equal, again, started)


@pytest.mark.slow
def test_multiple_choice_is_by_matching_and_contrast():
    task = create_task(config_of("retrieve"))
    batch = questions() | {"group": np.arange(6, dtype=np.int32) % 3}
    batch["text"], batch["text_length"] = encoded([ANSWERS[i % 3] for i in range(6)], 6)
    variables, _ = trained(task, batch, 60)
    table = MultipleChoice(task, make_mesh(), Data()).run(variables)
    assert table.scalars == {"accuracy@2x12": 5 / 6} and table.unreadable == ("video 4",)
    assert table.rows[0]["options"] == 3


def test_what_evaluators_of_questions_refuse(monkeypatch):
    answer, retrieve = create_task(config_of()), create_task(config_of("retrieve"))
    with pytest.raises(ValueError, match="needs task 'answer', not 'retrieve'"):
        AnswerAccuracy(retrieve, make_mesh(), Data())
    with pytest.raises(ValueError, match="needs a task that matches pairs"):
        MultipleChoice(answer, make_mesh(), Data())
    monkeypatch.setattr(Asked, "options", lambda self: [ANSWERS] * 5 + [()])
    with pytest.raises(ValueError, match=r"as many options of every video, not \[0, 3\]"):
        MultipleChoice(retrieve, make_mesh(), Data())
    monkeypatch.setattr(Asked, "answers", lambda self: [("red",)] * 5 + [()])
    with pytest.raises(ValueError, match="test video 5 has no answer"):
        AnswerAccuracy(answer, make_mesh(), Data())
    with pytest.raises(ValueError, match=r"config\.answer\.vocabulary='' must name"):
        create_task(config_of(vocabulary="")).check()
