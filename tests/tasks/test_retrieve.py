"""Retrieval as a task: it learns pairs, starts from checkpoints, refuses what it cannot do."""

import jax
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.tasks import create_task
from tests.models.test_umt import SIZES, TEXT


def config_of(**own):
    config = base_config("umt_ti8", task="retrieve")
    config.model.update(SIZES | TEXT)
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


def test_it_learns_pairs(tmp_path):
    task, batch = create_task(config_of()), pairs()
    assert {n: (s.shape, s.dtype) for n, s in task.batch_spec(6).items()} == {
        n: (x.shape, x.dtype) for n, x in batch.items()
    }
    variables = jax.jit(task.init)(jax.random.key(0))
    optimizer = optax.adam(2e-3)
    (plan,) = task.plans()

    @jax.jit
    def step(params, state, key):
        def loss(params):
            out = task.loss({"params": params}, batch, key, plan)
            return out.total, out.terms

        gradients, terms = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, terms

    params, state = variables["params"], optimizer.init(variables["params"])
    for i in range(60):
        params, state, terms = step(params, state, jax.random.fold_in(jax.random.key(1), i))
        if i == 0:
            assert float(terms["vtc"][0]) > 1.2  # ln 6 is 1.79
    assert set(terms) == {"vtc", "vtm"} and all(weight == 1.0 for _, weight in terms.values())
    assert float(terms["vtc"][0]) < 0.5  # 2/6 ln 2 is left of the two equal captions

    @jax.jit
    def held_out(params):
        variables = {"params": params}
        video, text = (f(variables, batch, plan) for f in (task.embed_video, task.embed_text))
        return video @ text.T, task.losses(variables, batch, plan)["vtc"]

    scores, losses = held_out(params)
    np.testing.assert_array_equal(batch["group"][np.argmax(scores, axis=1)], batch["group"])
    assert losses.shape == (6,) and np.all(np.asarray(losses) < 0.5)
    fluxjax.save(tmp_path / "model", task.model, {"params": params})
    other = create_task(config_of())
    other.model = task.model.clone(answer_layers=1, embedding=None)
    fresh = jax.jit(other.model.init)(jax.random.key(2), batch["video"])
    started = other.start_from(str(tmp_path / "model"), fresh)
    taken, new = (started["params"]["text"]["words"], started["params"]["answers"]["words"])
    np.testing.assert_array_equal(taken["embedding"], params["text"]["words"]["embedding"])
    expected = fresh["params"]["answers"]["words"]["embedding"]
    np.testing.assert_array_equal(new["embedding"], expected)


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
