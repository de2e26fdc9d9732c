"""Flux-CLIP in the task `contrast`: packed clips of any grid, a loss at every budget."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.config.keys import base_config, check_config
from fluxjax.models.layers import unit
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.tokens import unpatchify


def config(**own):
    config = base_config("flux_clip_ti14", "contrast")
    config.model.update({"width": 16, "depth": 1, "num_heads": 2, "grid": (4, 2, 2), "pooled": 16,
                         "pool_heads": 2, "layer_scale": 1.0, "embedding": 8, "text_width": 16,
                         "text_depth": 1, "text_heads": 2, "vocab_size": 400,
                         "context_length": 12})  # fmt: skip
    config.budgets, config.batch_size = (8, 6, 4), 6
    config.grids.frames, config.grids.resolutions = (2, 4, 6), (28, 42)
    config.grids.min_tokens, config.grids.max_tokens = 8, 36
    config.data.train = config.data.test = "demo:captions"
    config.eval.grids, config.eval.budgets = ("2x28", "4x28"), (12, 8, 4)
    config.contrast.vocabulary, config.contrast.tokenizer = "demo:captions", "file"
    config.contrast.update(own)
    return config


def batch_of(task, grid, rows=6):
    rng = np.random.default_rng(0)
    patches = np.zeros((rows, task.slots, 588), np.uint8)
    patches[:, : grid.tokens()] = rng.integers(0, 256, (rows, grid.tokens(), 588))
    return {
        "patches": jnp.asarray(patches),
        "grid": jnp.tile(jnp.asarray(grid.shape(), jnp.int32), (rows, 1)),
        "text": jnp.asarray(rng.integers(0, 400, (rows, 12)), jnp.int32),
        "text_length": jnp.full(rows, 12, jnp.int32),
    }


TASK = create_task(config())
VARIABLES = jax.jit(TASK.init)(jax.random.key(0))
BATCH = batch_of(TASK, Grid(6, 28))


def gradient(task, batch=BATCH):
    def total(params):
        output = task.loss({"params": params}, batch, jax.random.key(1), task.plans()[0])
        return output.total, output

    return jax.jit(jax.value_and_grad(total, has_aux=True))(VARIABLES["params"])


@pytest.fixture(scope="module")
def whole():
    return gradient(TASK)


def test_the_loss_is_the_mean_over_budgets_of_the_cross_entropy_of_all_pairs(whole):
    (total, output), _ = whole
    plans = TASK.eval_plans(Grid(4, 28))
    assert {budget: plan.budget for budget, plan in plans.items()} == {12: 12, 8: 8, 4: 4}
    assert list(TASK.eval_plans(Grid(2, 28))) == [8, 4]
    scale = np.exp(VARIABLES["params"]["logit_scale"])
    embed = jax.jit(TASK.embed_video, static_argnums=2)
    text = np.asarray(unit(TASK.embed_text(VARIABLES, BATCH, None)), np.float64)
    losses = []
    for budget in (8, 6, 4):
        video = unit(embed(VARIABLES, BATCH, plans[8]._replace(budget=budget)))
        table = scale * np.asarray(video, np.float64) @ text.T
        normal = lambda x: np.log(np.exp(x).sum(axis=1))  # noqa: E731
        losses.append(np.mean((normal(table) + normal(table.T)) / 2 - np.diag(table)))
        value, weight = output.terms[f"contrastive_{budget}"]
        np.testing.assert_allclose(value, losses[-1], rtol=1e-4)
        np.testing.assert_allclose(weight, 1 / 3)
        nearest = np.mean(table.argmax(axis=1) == np.arange(6))
        assert output.metrics[f"top1_{budget}"] == pytest.approx(nearest)
    np.testing.assert_allclose(total, np.mean(losses), rtol=1e-4)
    assert np.ptp(losses) > 1e-4


@pytest.mark.slow
def test_parts_do_not_change_the_gradient(whole):
    (total, _), grads = whole
    (other_total, _), other = gradient(create_task(config(parts=3)))
    np.testing.assert_allclose(other_total, total, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(grads), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_one_program_serves_all_grids():
    assert len(TASK.grids) == 5 and len(TASK.plans()) == 1
    spec = TASK.batch_spec(6)
    assert spec["patches"].shape == (6, 36, 588)
    traced = []

    @jax.jit
    def run(batch):
        traced.append(1)
        return TASK.embed_video(VARIABLES, batch, TASK.eval_plans(Grid(4, 28))[8])

    rows = [run(batch_of(TASK, grid)) for grid in TASK.grids]
    assert len(traced) == 1 and all(np.all(np.isfinite(x)) for x in rows)
    grid = Grid(2, 42)
    batch = batch_of(TASK, grid)
    video = unpatchify(batch["patches"][:, : grid.tokens()], grid.shape())
    expected = TASK.model.apply(VARIABLES, video, 8, method="encode_video")
    np.testing.assert_allclose(run(batch), expected, rtol=1e-3, atol=1e-4)


def test_padding_is_not_seen_where_a_budget_takes_every_slot():
    grid = Grid(2, 42)
    batch = batch_of(TASK, grid, rows=2)
    plan = TASK.eval_plans(Grid(4, 28))[8]._replace(budget=TASK.slots)
    found = jax.jit(TASK.embed_video, static_argnums=2)(VARIABLES, batch, plan)
    video = unpatchify(batch["patches"][:, : grid.tokens()], grid.shape())
    alone = functools.partial(TASK.model.apply, budget=TASK.slots, method="encode_video")
    np.testing.assert_allclose(found, jax.jit(alone)(VARIABLES, video), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": ()}, r"config.budgets=\(\) must name tokens of a clip, at most 36"),
        ({"budgets": (4, 8)}, "from the largest to the smallest"),
        ({"budgets": (40,)}, "must lie between 1 and 36"),
        ({"contrast.text_from": "models/clip"}, "name this one's checkpoint in config.init_from"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(change, message):
    wrong = config()
    wrong.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        check_config(wrong)
