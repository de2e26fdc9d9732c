import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.config.keys import base_config
from fluxjax.models.fluxvit import BudgetOutput
from fluxjax.tasks import create_task, losses
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid, clip_patches
from tests import tiny


@functools.cache
def task_and_variables():
    task = create_task(tiny.get_config())
    return task, jax.jit(task.init)(jax.random.key(0))


def host_batch(task, grid=(4, 2, 2), clips=8):
    rng = np.random.default_rng(0)
    patches = np.zeros((clips, task.slots, 588), np.uint8)
    patches[:, : int(np.prod(grid))] = rng.integers(0, 256, (clips, int(np.prod(grid)), 588))
    return {
        "patches": patches,
        "grid": np.tile(np.int32(grid), (clips, 1)),
        "label": rng.integers(0, 4, clips, np.int32),
    }


def test_host_batches_match_the_spec():
    task, _ = task_and_variables()
    batch = host_batch(task)
    spec = task.batch_spec(8)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in spec.items()
    }


def test_alignment_is_the_cosine_distance_over_the_width():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 256))
    cosine = np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    value = losses.alignment(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(value, np.mean(1 - cosine) / 256, rtol=1e-5)
    teacher_gradient = jax.grad(losses.alignment, argnums=1)(jnp.asarray(a), jnp.asarray(b))
    assert not np.asarray(teacher_gradient).any()


def test_terms_of_flux_multi():
    logits = jnp.array([[2.0, 0.0]])
    features = jnp.array([[1.0, 0.0]])
    outputs = [
        BudgetOutput(logits, features, None),
        BudgetOutput(-logits, features, jnp.array([[0.0, 1.0]])),
    ]
    terms = losses.flux_multi_terms(outputs, jnp.array([[1.0, 0.0]]), (20, 10))
    assert list(terms) == ["ce_20", "ce_10", "align_10"]
    assert terms["ce_20"][0] == pytest.approx(np.log1p(np.exp(-2)))
    assert terms["ce_10"][0] == pytest.approx(np.log1p(np.exp(2)))
    assert terms["align_10"] == (pytest.approx(1 / 2), 1.0)


def test_dense_and_packed_batches_predict_the_same():
    task, variables = task_and_variables()
    video = np.random.default_rng(1).integers(0, 256, (2, 4, 28, 28, 3), np.uint8)
    packed = host_batch(task, clips=2)
    packed["patches"][:, :16] = np.stack([clip_patches(clip) for clip in video])
    plan = Plan("eval", 8)
    predict = jax.jit(lambda v, b: task.predict(v, b, plan))
    np.testing.assert_allclose(
        predict(variables, {"video": video}), predict(variables, packed), atol=1e-5
    )


@pytest.mark.slow
def test_mixing_and_smoothing_reach_the_loss():
    _, variables = task_and_variables()
    values = {}
    for name, prob, smoothing in (("plain", 0.0, 0.0), ("smooth", 0.0, 0.4), ("mixed", 1.0, 0.0)):
        config = tiny.get_config()
        config.mixing.prob, config.mixing.smoothing = prob, smoothing
        task = create_task(config)
        batch = host_batch(task)
        loss = jax.jit(lambda key, t=task, b=batch: t.loss(variables, b, key, t.plans()[0]).total)
        values[name] = [float(loss(jax.random.key(seed))) for seed in range(2)]
    assert values["plain"][0] == values["plain"][1], "a random draw without mixing"
    assert values["smooth"][0] != pytest.approx(values["plain"][0], rel=1e-5)
    assert values["mixed"][0] != pytest.approx(values["mixed"][1], rel=1e-5)


@pytest.mark.parametrize("key", ["erasing.prob", "jitter.brightness", "jitter.contrast",
                                 "jitter.saturation", "jitter.hue"])  # fmt: skip
def test_augmentation_on_the_device_reaches_the_loss(key):
    _, variables = task_and_variables()
    values = {}
    for prob in (0.0, 0.5):
        config = tiny.get_config()
        config.update_from_flattened_dict({key: 2 * prob if key == "erasing.prob" else prob})
        task = create_task(config)
        batch = host_batch(task)
        loss = jax.jit(lambda key, t=task, b=batch: t.loss(variables, b, key, t.plans()[0]).total)
        values[prob] = [float(loss(jax.random.key(seed))) for seed in range(2)]
    assert values[0.0][0] == values[0.0][1]
    assert len({*values[0.0], *values[0.5]}) == 3


def test_single_budget_of_the_config_is_trained():
    config = tiny.get_config()
    config.method, config.single_budget = "flux_single", 4
    task = create_task(config)
    _, variables = task_and_variables()
    plan = task.plans()[0]
    output = jax.jit(lambda v, b: task.loss(v, b, jax.random.key(0), plan))(
        variables, host_batch(task)
    )
    assert list(output.terms) == ["ce_4"] and list(output.metrics) == ["top1_4"]


def test_a_model_that_takes_no_budget_is_trained_and_evaluated_on_all_tokens():
    config = base_config("avion_ti8")
    config.model.update({"width": 16, "depth": 1, "num_heads": 2, "num_frames": 2, "grid": (2, 2),
                         "head_dropout": 0.0})  # fmt: skip
    config.method, config.budgets, config.num_classes = "cross_entropy", (), 4
    config.grids.frames, config.grids.resolutions = (2,), (16,)
    config.grids.min_tokens = config.grids.max_tokens = 8
    config.eval.grids, config.data.flip = ("2x16",), False
    task = create_task(config)
    variables = jax.jit(task.init)(jax.random.key(0))
    video = np.random.default_rng(2).integers(0, 256, (4, 2, 16, 16, 3), np.uint8)
    patches = np.stack([clip_patches(clip, 8) for clip in video])
    batch = {"patches": patches, "grid": np.tile(np.int32([2, 2, 2]), (4, 1)),
             "label": np.arange(4, dtype=np.int32)}  # fmt: skip
    (plan,) = task.plans()
    logits = jax.jit(task.model.apply)(variables, video)
    output = jax.jit(task.loss, static_argnums=3)(variables, batch, jax.random.key(0), plan)
    expected = -np.diag(jax.nn.log_softmax(logits)).mean()
    np.testing.assert_allclose(output.total, expected, rtol=1e-5)
    assert list(output.terms) == ["ce"]
    plans = task.eval_plans(Grid(2, 16))
    assert list(plans) == [None]
    run = jax.jit(lambda v, b: (task.predict(v, b, plans[None]), task.features(v, b, plans[None])))
    predicted, features = run(variables, batch)
    np.testing.assert_allclose(predicted, logits, atol=1e-5)
    assert features.shape == (4, 16)
    config.single_budget = 4
    with pytest.raises(ValueError, match="single_budget=4 must be None: avion_ti8 takes all"):
        create_task(config)


def test_classes_that_nothing_tells_are_asked_for():
    config = tiny.get_config()
    config.data.train, config.num_classes = "captions.jsonl", None
    with pytest.raises(ValueError, match=r"data\.train='captions\.jsonl' has no labels, which"):
        create_task(config).init(jax.random.key(0))
