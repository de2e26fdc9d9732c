"""The task that matches clips and captions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.clips.examples import PerVideo
from fluxjax.config.keys import base_config, check_config
from fluxjax.tasks import create_task
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import parse_grid


def config(**own):
    config = base_config("avion_ti8", "contrast")
    config.model.update({"width": 16, "depth": 1, "num_heads": 2, "num_frames": 2, "grid": (2, 2),
                         "embedding": 8, "text_width": 16, "text_depth": 1, "text_heads": 2,
                         "vocab_size": 400, "context_length": 12})  # fmt: skip
    config.grids.frames, config.grids.resolutions = (2,), (16,)
    config.grids.min_tokens = config.grids.max_tokens = 8
    config.data.train = config.data.test = "demo:captions"
    config.batch_size, config.eval.grids, config.eval.budgets = 6, ("2x16",), (8,)
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.contrast.update(own)
    return config


def batch():
    rng = np.random.default_rng(0)
    return {
        "video": jnp.asarray(rng.integers(0, 256, (6, 2, 16, 16, 3)), jnp.uint8),
        "text": jnp.asarray(rng.integers(0, 400, (6, 12)), jnp.int32),
        "text_length": jnp.full(6, 12, jnp.int32),
    }


TASK = create_task(config())
VARIABLES = jax.jit(TASK.init)(jax.random.key(0))
EMBEDDED = jax.jit(TASK.model.apply)(VARIABLES, batch()["video"], batch()["text"])


def loss_of(task):
    run = jax.jit(task.loss, static_argnums=3)
    return run(VARIABLES, batch(), jax.random.key(1), task.plans()[0])


def gradient(task):
    def total(params):
        return task.loss({"params": params}, batch(), jax.random.key(1), task.plans()[0]).total

    return jax.jit(jax.value_and_grad(total))(VARIABLES["params"])


def test_the_loss_is_the_cross_entropy_of_all_pairs():
    video, text, scale = EMBEDDED
    table = np.asarray(scale * video @ text.T, np.float64)
    normal = lambda x: np.log(np.exp(x).sum(axis=1))  # noqa: E731
    expected = np.mean((normal(table) + normal(table.T)) / 2 - np.diag(table))
    output = loss_of(TASK)
    np.testing.assert_allclose(output.total, expected, rtol=1e-5)
    assert output.metrics["top1"] == np.mean(table.argmax(axis=1) == np.arange(6))


@pytest.mark.parametrize("options", [{"parts": 3}, {"chunk": 2}])
def test_options_of_memory_do_not_change_the_gradient(options):
    value, grads = gradient(TASK)
    other_value, other = gradient(create_task(config(**options)))
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(grads), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-6)


def test_margins_instead_of_temperatures():
    task = create_task(config(loss="max_margin", margin=0.3))
    video, text, _ = EMBEDDED
    x = np.asarray(text @ video.T, np.float64)
    off = ~np.eye(6, dtype=bool)
    terms = [np.maximum(0.3 + way - np.diag(x)[:, None], 0)[off] for way in (x, x.T)]
    output = loss_of(task)
    np.testing.assert_allclose(output.total, np.mean(terms), rtol=1e-5)
    assert list(output.terms) == ["max_margin"]


def test_margins_are_as_large_as_captions_are_relevant():
    task = create_task(config(loss="max_margin", margin=0.3, relevancy=True))
    assert task.batch_spec(6)["relevancy"] == jax.ShapeDtypeStruct((6,), jnp.float32)
    relevancy = np.array([1.0, 0.1, 0.5, 0.0, 0.9, 0.3], np.float32)
    video, text, _ = EMBEDDED
    x = np.asarray(text @ video.T, np.float64)
    off = ~np.eye(6, dtype=bool)
    margins = (0.3 * relevancy - np.diag(x))[:, None]
    terms = [np.maximum(margins + way, 0)[off] for way in (x, x.T)]
    run = jax.jit(task.loss, static_argnums=3)
    given = batch() | {"relevancy": jnp.asarray(relevancy)}
    output = run(VARIABLES, given, jax.random.key(1), task.plans()[0])
    np.testing.assert_allclose(output.total, np.mean(terms), rtol=1e-5)
    assert output.metrics["top1"] == np.mean(x.argmax(axis=0) == np.arange(6))


def test_what_is_embedded_alone_is_what_training_compares():
    plan = Plan("eval", grid=parse_grid("2x16"))
    video, text, _ = EMBEDDED
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(unit(TASK.embed_video(VARIABLES, batch(), plan)), video, atol=1e-6)
    np.testing.assert_allclose(unit(TASK.embed_text(VARIABLES, batch(), plan)), text, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("contrast.vocabulary", "", "vocabulary='' must name .* bpe_simple_vocab_16e6"),
        ("contrast.loss", "triplet", "loss='triplet' must be one of"),
        ("contrast.parts", 4, "parts=4 must divide batch_size=6"),
        ("contrast.relevancy", True, "relevancy=True needs .*loss='max_margin'"),
        ("contrast.chunk", 0, "chunk=0 must be at least 1"),
        ("contrast.context", 13, "context=13 must lie between 3 and the model's 12"),
        ("eval.grids", ("2x17",), "2x17 must have pixels that are a multiple of the patch of 8"),
        ("mixing.prob", 0.5, "mixing.prob=0.5 has no effect"),
        ("jitter.hue", 0.1, "jitter has no effect"),
        ("model.name", "fluxvit_ti14", "'fluxvit_ti14' has no text tower"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(key, value, message):
    wrong = config()
    if key == "model.name":
        wrong.model = base_config(value).model
        wrong.grids.resolutions = (28,)
    else:
        wrong.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        check_config(wrong)


def test_a_vocabulary_of_more_ids_than_the_model_has_is_refused():
    small = config()
    small.model.vocab_size = 300
    spec = create_task(small).example()
    with pytest.raises(ValueError, match="demo:captions has .* ids, the model knows 300"):
        PerVideo(catalog=None, spec=spec)
    PerVideo(catalog=None, spec=TASK.example())
