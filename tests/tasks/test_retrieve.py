"""Retrieval as a task: its terms, where it starts from, what it refuses."""

import jax
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.tasks import create_task
from fluxjax.tasks.umt_losses import hard_negatives, similarity, vtc_loss
from tests.models.test_umt import SIZES, TEXT


def config_of(**own):
    config = base_config("umt_ti8", task="retrieve")
    config.model.update(SIZES | TEXT | {"text_dropout": 0.0})
    config.grids.frames, config.grids.resolutions = (2,), (12,)
    config.eval.grids = ("2x12",)
    config.retrieve.update({"vocabulary": "vocab.txt", "length": 6, "merge": (6, 0.2), **own})
    return config


def pairs():
    """Six clips of a colour each, and a word each; the last two say the same."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (6, 1, 1, 1, 3))
    text = np.array([[2, word, 3, 0, 0, 0] for word in (5, 6, 7, 8, 9, 9)], np.int32)
    return {
        "video": np.broadcast_to(colours, (6, 2, 12, 12, 3)).astype(np.uint8),
        "text": text,
        "text_length": np.full(6, 3, np.int32),
        "group": np.array([0, 1, 2, 3, 4, 4], np.int32),
    }


@pytest.mark.slow
def test_its_terms_are_those_of_its_embeddings_and_its_gradient_leads_down():
    task, batch = create_task(config_of()), pairs()
    assert {n: (s.shape, s.dtype) for n, s in task.batch_spec(6).items()} == {
        n: (x.shape, x.dtype) for n, x in batch.items()
    }
    (plan,) = task.plans()
    key = jax.random.key(1)

    @jax.jit
    def value(variables):
        def loss(params):
            out = task.loss({"params": params}, batch, key, plan)
            return out.total, out

        (total, out), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        embeddings = [f(variables, batch, plan) for f in (task.embed_video, task.embed_text)]
        scores = similarity(*embeddings, out.metrics["temperature"])
        negatives = hard_negatives(jax.random.split(key)[0], scores, batch["group"])
        return total, out, gradients, scores, negatives

    variables = jax.jit(task.init)(jax.random.key(0))
    total, out, gradients, scores, negatives = value(variables)
    assert set(out.terms) == {"vtc", "vtm"}
    contrast, matching = (float(out.terms[name][0]) for name in ("vtc", "vtm"))
    assert contrast == pytest.approx(float(vtc_loss(scores, batch["group"])), rel=1e-5)
    assert float(total) == pytest.approx(contrast + matching, rel=1e-6)
    assert float(out.metrics["temperature"]) == pytest.approx(0.07)
    wrong = batch["group"][np.stack([negatives.video, negatives.text])]
    assert np.all(wrong != batch["group"]), "a caption of the same group is no wrong partner"
    moved = jax.tree.map(lambda x, g: x - 0.02 * g, variables["params"], gradients)
    assert float(value({"params": moved})[0]) < float(total)


@pytest.mark.slow
def test_it_learns_six_pairs():
    task, batch = create_task(config_of()), pairs()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    params = jax.jit(task.init)(jax.random.key(0))["params"]

    @jax.jit
    def step(params, state, key):
        def loss(params):
            output = task.loss({"params": params}, batch, key, task.plans()[0])
            return output.total, output.terms["vtc"][0]

        (_, contrast), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, contrast

    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(1), 150):
        params, state, contrast = step(params, state, key)
    # Two captions are equal: no less than 2 * ln 2 / 6 = 0.231 is possible.
    assert 0.23 < contrast < 0.3


@pytest.mark.slow
def test_another_umt_starts_from_its_model(tmp_path):
    """What only one of them has stays new, or is left out."""
    task = create_task(config_of())
    variables = jax.jit(task.init)(jax.random.key(0))
    fluxjax.save(tmp_path / "model", task.model, variables)
    task.model = task.model.clone(answer_layers=1, embedding=None)
    fresh = jax.jit(task.init)(jax.random.key(2))
    started = task.start_from(str(tmp_path / "model"), fresh)["params"]
    words = lambda params, part: params[part]["words"]["embedding"]  # noqa: E731
    np.testing.assert_array_equal(words(started, "text"), words(variables["params"], "text"))
    np.testing.assert_array_equal(words(started, "answers"), words(fresh["params"], "answers"))
    assert "match_head" not in started


def test_what_it_refuses():
    for own, message in (
        ({"vocabulary": ""}, r"config\.retrieve\.vocabulary='' must name"),
        ({"merge": (1,) * 4}, "longer than the 3 blocks"),
    ):
        with pytest.raises(ValueError, match=message):
            create_task(config_of(**own)).check()
    config = config_of()
    config.grids.frames = (2, 4)
    with pytest.raises(ValueError, match=r"config\.grids gives 2"):
        create_task(config)
    with pytest.raises(ValueError, match="'evl_ti8' has none"):
        config = base_config("evl_ti8", task="retrieve")
        config.grids.frames, config.grids.resolutions = (2,), (48,)
        create_task(config)
    config = config_of()
    config.eval.grids = ("2x13",)
    with pytest.raises(ValueError, match="multiple of the patch of 4"):
        create_task(config).check()
