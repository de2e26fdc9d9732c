"""Training with a frozen tower: what has gradients, optimizer state and updates."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.training import loop
from fluxjax.training.flops import count_flops
from tests import tiny
from tests.config.test_configs import load
from tests.training.test_loop import batches, run


def millions(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree)) / 1e6


def test_only_the_decoder_of_evl_b16_has_optimizer_state():
    _, config = load("evl_b16_k400", None)
    config.data.train = config.data.test = "list.txt"
    state = loop.Trainer.create(create_task(config)).abstract_state
    assert millions(state.params) == pytest.approx(33.18, abs=0.005)
    assert millions(state.frozen) == pytest.approx(85.80, abs=0.005)
    assert set(state.frozen) == {"tower"} and "tower" not in state.params
    assert millions(state.opt_state) == pytest.approx(2 * millions(state.params), abs=1e-4)


def flops(config, gradient):
    """Of the loss of a batch, with or without its gradient for the trained parameters."""
    task = create_task(config)
    trainer = loop.Trainer.create(task)
    # Without the shardings of a mesh, which counting knows nothing of.
    plain = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
    state = jax.tree.map(plain, trainer.abstract_state)
    batch = task.batch_spec(config.batch_size)

    def loss(params, state, batch):
        variables = state.variables(params)
        return task.loss(variables, batch, jax.random.key(0), task.plans()[0]).total

    function = jax.grad(loss) if gradient else loss
    return count_flops(jax.make_jaxpr(function)(state.params, state, batch))


@pytest.mark.slow
def test_no_gradient_is_computed_through_a_frozen_tower():
    config = tiny.evl_config()
    config.model.depth, config.model.width = 6, 32
    forward, frozen = flops(config, False), flops(config, True)
    config.model.train_tower = True
    trained = flops(config, True)
    assert frozen < 1.6 * forward
    assert trained > 2.5 * forward


@pytest.mark.slow
@pytest.mark.parametrize("train_tower", [False, True])
def test_a_run_trains_what_it_should(tmp_path, train_tower):
    config = tiny.evl_config()
    config.model.train_tower = train_tower
    config.model.dtype = "bfloat16"
    config.optim.lr = 0.1
    config.total_steps = 12
    initial = jax.device_get(loop.Trainer.create(create_task(config)).initial_state())
    state, losses = run(config, tmp_path)
    state = jax.device_get(state)
    before, after = (s.variables()["params"] for s in (initial, state))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
    towers = jax.tree.leaves(moved["tower"])
    assert (min(towers) > 0) if train_tower else (max(towers) == 0)
    temporal = moved["decoder"]["layers_0"]["temporal"]
    assert min(jax.tree.leaves(temporal)) > 0, "a temporal module has not learnt"
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(state.params))
    assert all(np.isfinite(loss) for _, loss in losses)


@pytest.mark.slow
def test_the_gradient_of_fine_tuning_is_the_slope_of_the_loss():
    config = tiny.evl_config()
    config.model.train_tower, config.model.mlp_dropout, config.model.head_dropout = True, 0.0, 0.0
    task = create_task(config)
    batch = next(batches(task, 0))

    @jax.jit
    def loss(params):
        # Zero tables would hide the cross-attention, and with it the gradient of q and k.
        params = jax.tree.map(lambda x: x + 0.05 * jnp.cos(jnp.arange(x.size)).reshape(x.shape),
                              params)  # fmt: skip
        return task.loss({"params": params}, batch, jax.random.key(0), task.plans()[0]).total

    params = jax.jit(task.init)(jax.random.key(0))["params"]
    gradient = jax.jit(jax.grad(loss))(params)
    tower = gradient["tower"]
    size = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(tower)))
    assert size > 1e-4

    def along(step):
        moved = jax.tree.map(lambda p, g: p + step * g / size, params["tower"], tower)
        return float(loss({**params, "tower": moved}))

    slope = (along(0.02) - along(-0.02)) / 0.04
    assert slope == pytest.approx(float(size), rel=0.05)


def clip_checkpoint(folder, **fields):
    sizes = {"width": 16, "depth": 2, "num_heads": 2, "patch": 14, "grid": (2, 2)}
    model = fluxjax.create_model("clip_ti8", **({"num_classes": 10} | sizes | fields))
    image = np.zeros((1, 28, 28, 3), np.float32)
    rng = np.random.default_rng(7)
    draw = lambda x: rng.standard_normal(x.shape, np.float32) * 0.1  # noqa: E731
    variables = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(7), image))
    fluxjax.save(folder, model, variables)
    return variables["params"]


@pytest.mark.slow
def test_evl_starts_from_clip_and_from_evl_on_another_grid(tmp_path, caplog):
    params = clip_checkpoint(tmp_path / "clip")
    config = tiny.evl_config()
    config.init_from = str(tmp_path / "clip")
    check_config(config)
    task = create_task(config)
    with caplog.at_level(logging.INFO, "fluxjax"):
        state = jax.device_get(loop.Trainer.create(task).initial_state())
    jax.tree.map(np.testing.assert_array_equal, state.frozen["tower"], params["tower"])
    assert "decoder/layers_*" in caplog.text
    fluxjax.save(tmp_path / "evl", task.model, state.variables())

    config.init_from, config.model.num_frames, config.model.grid = str(tmp_path / "evl"), 2, (3, 2)
    other = jax.device_get(loop.Trainer.create(create_task(config)).initial_state())
    temporal = other.params["decoder"]["layers_0"]["temporal"]
    assert temporal["position"].shape == (2, 16)
    assert temporal["cross_attention"]["w1"].shape == (5, 3, 16)
    jax.tree.map(
        np.testing.assert_array_equal,
        other.params["decoder"]["layers_0"]["attn"], state.params["decoder"]["layers_0"]["attn"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 3}, "has depth=3 not 2"),
        ({"gelu": "exact"}, "has gelu='exact' not 'quick'"),
        ({"width": 32}, r"tower/.* is \[.*32.*\], the model's"),
    ],
)
def test_other_towers_are_refused(tmp_path, fields, message):
    clip_checkpoint(tmp_path / "clip", **fields)
    task = create_task(tiny.evl_config())
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    with pytest.raises(fluxjax.WeightsError, match=message):
        task.start_from(str(tmp_path / "clip"), variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "config.init_from=None must name an inference checkpoint, or the frozen tower"),
        ({"grids.frames": (2, 4), "grids.min_tokens": 8}, "trains on one sampling grid"),
        ({"budgets": (16,)}, r"set config.budgets=\(\) instead of \(16,\)"),
        ({"model.select": "middle"}, r"select='middle' is unknown; choose one of"),
        ({"model.decoder_layers": 3}, "decoder_layers=3 must lie between 1 and depth=2"),
        ({"data.sampling": "dense"}, "config.data.sampling: 'dense' lacks the frames"),
        ({"single_budget": 3}, "single_budget=3 must lie between 4 and 16"),
    ],
)
def test_wrong_evl_configs_are_named(change, message):
    config = tiny.evl_config()
    config.data.train = "dummy" if change else "demo:easy"
    for key, value in change.items():
        part = functools.reduce(getattr, key.split(".")[:-1], config)
        part[key.split(".")[-1]] = value
    with pytest.raises(ValueError, match=message):
        check_config(config)
