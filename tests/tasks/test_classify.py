import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.models.fluxvit import BudgetOutput
from fluxjax.tasks import create_task, losses
from fluxjax.tasks.base import Plan
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
    from fluxjax.tokens.grids import clip_patches

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
