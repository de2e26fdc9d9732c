"""UMT's pre-training with text as a task."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

import fluxjax
from fluxjax.checkpoints.text_towers import start_text
from fluxjax.config.keys import base_config
from fluxjax.models.bert import Bert
from fluxjax.tasks import create_task, pretrain_umt
from fluxjax.tasks.base import constants_of
from fluxjax.tasks.umt_losses import IGNORED, mask_words
from fluxjax.tasks.umt_task import texts_of
from fluxjax.weight_files.errors import WeightsError
from tests.models.test_umt import SIZES, TEXT

TEACHER = {"width": 16, "depth": 2, "num_heads": 2, "patch": 6, "grid": (3, 3), "embedding": 8}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An inference checkpoint of random weights, large enough that tokens differ; its path."""
    model = fluxjax.create_model("clip_ti8", None, **TEACHER)
    rng = np.random.default_rng(0)
    draw = lambda x: rng.standard_normal(x.shape, np.float32) * 0.3  # noqa: E731
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 18, 18, 3), np.float32))
    folder = tmp_path_factory.mktemp("teacher") / "clip"
    fluxjax.save(folder, model, jax.tree.map(draw, shapes))
    return str(folder)


def config_of(teacher):
    config = base_config("umt_ti8", task="pretrain_umt")
    config.model.update(SIZES | TEXT | {"text_dropout": 0.0})
    config.grids.frames, config.grids.resolutions = (2,), (12,)
    config.eval.grids = ("2x12",)
    own = config.pretrain_umt
    own.update({"vocabulary": "vocab.txt", "length": 6, "mask_id": 4, "hidden": 0.5})
    own.teacher, own.teacher_dtype = teacher, "float32"
    return config


def pairs():
    """Six clips, of random blocks, and a sentence each."""
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (6, 2, 6, 6, 3)).repeat(2, axis=2).repeat(2, axis=3)
    text = np.array([[2, a, b, 3, 0, 0] for a, b in zip(range(5, 11), range(11, 17), strict=True)])
    return {
        "video": video.astype(np.uint8), "text": text.astype(np.int32),
        "text_length": np.full(6, 4, np.int32), "group": np.arange(6, dtype=np.int32),
        "draw": np.arange(6, dtype=np.int32) + 100,
    }  # fmt: skip


@functools.cache
def made(teacher):
    task = create_task(config_of(teacher))
    task.check()
    return task, jax.jit(task.init)(jax.random.key(0)) | constants_of(task).load()


def descended(task, variables, batch, steps, shares):
    """Terms at the first step, and once each is below its share of that, in so many steps."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-3))
    params = variables["params"]

    @jax.jit
    def step(params, state, key):
        def loss(params):
            out = task.loss(variables | {"params": params}, batch, key, task.plans()[0])
            return out.total, out.terms

        (_, terms), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, terms

    state, first, last = optimizer.init(params), {}, {}
    for key in jax.random.split(jax.random.key(1), steps):
        params, state, terms = step(params, state, key)
        for name, (value, _) in terms.items():
            first.setdefault(name, float(value))
            last[name] = 0.9 * last.get(name, float(value)) + 0.1 * float(value)
        if all(last[name] < share * first[name] for name, share in shares.items()):
            break
    return first, last


@pytest.mark.slow
def test_all_four_terms_are_learned(teacher):
    task, variables = made(teacher)
    assert {n: (s.shape, s.dtype) for n, s in task.batch_spec(6).items()} == {
        n: (x.shape, x.dtype) for n, x in pairs().items()
    }
    assert "teacher" not in jax.eval_shape(task.init, jax.random.key(0))
    shares = {"uta": 0.7, "vtc": 0.8, "vtm": 0.98, "mlm": 0.9}
    first, last = descended(task, variables, pairs(), 600, shares)
    assert set(first) == set(shares)
    for name, share in shares.items():
        assert last[name] < share * first[name], (name, first, last)


def test_what_the_student_sees_is_what_the_teacher_looks_at(teacher):
    """Half of each frame's tokens, at other places for other draws; features are those of them."""
    task, variables = made(teacher)
    video = pairs()["video"]
    teach = jax.jit(lambda v, x, d: task.teacher.teach(v, x, d, 2, 4))
    draws = np.random.default_rng(1).exponential(size=(12, 9)).astype(np.float32)
    lesson, other = teach(variables, video, draws), teach(variables, video, draws[::-1])
    assert lesson.visible.shape == (6, 2 * 5) and lesson.features.shape == (2, 6, 10, 8)
    assert np.all(np.diff(lesson.visible, axis=1) > 0) and np.any(lesson.visible != other.visible)
    assert np.min(np.ptp(lesson.features, axis=2).max(axis=-1)) > 1e-3, "all of the same token"
    places = [(b, p) for b in range(6) for p in set(lesson.visible[b].tolist())]
    same = [(b, p) for b, p in places if p in set(other.visible[b].tolist())]
    assert len(same) > 10
    for b, p in same:
        mine, theirs = (int(np.flatnonzero(x.visible[b] == p)[0]) for x in (lesson, other))
        np.testing.assert_allclose(
            lesson.features[:, b, mine], other.features[:, b, theirs], atol=1e-6
        )


def test_hidden_words_are_hidden_as_the_task_says(teacher):
    task, _ = made(teacher)
    texts = texts_of(pairs())
    ids, labels = mask_words(
        jax.random.split(jax.random.key(0), 6), *texts, task.model.vocabulary, 4, 0.5
    )
    asked = np.asarray(labels) != IGNORED
    assert not np.any(asked & (np.asarray(texts.mask) == 0)) and not np.any(asked[:, 0])
    assert np.any(np.asarray(ids)[asked] == task.own.mask_id)


def test_what_is_hidden_depends_on_the_example_alone(teacher, monkeypatch):
    """Not on the batch that it is in, nor on the step."""
    task, variables = made(teacher)
    shown = lambda apply, video, texts, group, masked, negatives: masked._asdict()  # noqa: E731
    monkeypatch.setattr(pretrain_umt, "pretraining_terms", shown)
    hidden = lambda batch, step: {  # noqa: E731
        name: np.asarray(value)
        for name, (value, _) in task.loss(
            variables, batch, jax.random.key(step), task.plans()[0]
        ).terms.items()
        if name != "teacher"
    }
    whole = pairs()
    among = hidden(whole, 0)
    alone = hidden({name: value[4:5] for name, value in whole.items()}, 1)
    other = hidden(whole | {"draw": whole["draw"] + 1}, 0)
    for name, value in alone.items():
        np.testing.assert_array_equal(value[0], among[name][4], name)
        assert np.any(other[name] != among[name]), name
    assert np.any(among["visible"] != among["visible"][:1])


@pytest.mark.slow
def test_it_starts_from_a_student_of_videos_alone(teacher, tmp_path):
    student = fluxjax.create_model(
        "umt_student_ti8", None, **SIZES, taught_layers=2, taught_width=8
    )
    clip = pairs()["video"][:1]
    stored = jax.jit(student.init)(jax.random.key(5), clip)
    fluxjax.save(tmp_path / "model", student, stored)
    task, _ = made(teacher)
    fresh = jax.jit(task.init)(jax.random.key(2))
    started = task.start_from(str(tmp_path / "model"), fresh)["params"]
    equal = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    equal(started["vision"]["encoder"], stored["params"]["encoder"])
    equal(started["text"], fresh["params"]["text"])


def drawn(init, seed):
    """Random variables of the shapes that `init` gives, compiled for nothing."""
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: draw(x.shape, np.float32), jax.eval_shape(init))


def test_its_texts_start_from_plain_bert(teacher, tmp_path):
    """What attends to videos stays new; so does the head where that BERT has none."""
    task, _ = made(teacher)
    fresh = drawn(lambda: task.init(jax.random.key(0)), 0)
    fields = {"vocabulary": 20, "width": 16, "depth": 3, "hidden": 24, "max_length": 9}
    berts = [Bert(**fields, num_heads=heads) for heads in (2, 4)]
    init = lambda: berts[0].init(jax.random.key(0), np.zeros((1, 3), np.int32))  # noqa: E731
    stored = drawn(init, 1)
    for number, bert in enumerate(berts):
        fluxjax.save(tmp_path / str(number), bert, stored)
    started = start_text(str(tmp_path / "0"), task.model, fresh)["params"]
    given, initial = (flatten_dict(x) for x in (stored["params"], fresh["params"]["text"]))
    kept = set()
    for path, value in flatten_dict(started["text"]).items():
        np.testing.assert_array_equal(value, given.get(path, initial[path]), "/".join(path))
        kept |= set() if path in given else {path[1] if "layers" in path[0] else path[0]}
    assert kept == {"cross", "transform", "transform_norm", "token_bias"}
    with pytest.raises(WeightsError, match="num_heads=4 not 2"):
        start_text(str(tmp_path / "1"), task.model, fresh)


def test_what_it_refuses(teacher):
    for change, message in (
        ({"teacher": None}, r"config\.pretrain_umt\.teacher=None must name CLIP's"),
        ({"vocabulary": ""}, r"config\.pretrain_umt\.vocabulary='' must name"),
        ({"mask_id": 20}, "mask_id=20 must be below the 20 ids"),
        (
            {"text_from": "bert"},
            "text_from='bert' starts the text encoder beside",
        ),
    ):
        config = config_of(teacher)
        config.pretrain_umt.update(change)
        with pytest.raises(ValueError, match=message):
            create_task(config).check()
    config = config_of(teacher)
    config.model.tubelet = 2
    with pytest.raises(ValueError, match="needs a token a frame; set it to 1"):
        create_task(config)
    other = config_of(teacher)
    other.pretrain_umt.teacher_hash = "0"
    with pytest.raises(ValueError, match=r"config\.pretrain_umt\.teacher=.* is another model"):
        create_task(other)
