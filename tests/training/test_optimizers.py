import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fluxjax.convert.load import to_torch
from fluxjax.tasks import create_task
from fluxjax.tasks.base import ParamGroup
from fluxjax.training.optimizers import make_optimizer, warmup_cosine
from fluxjax.training.state import merge_params, split_params
from tests import tiny

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden/fluxvit/v09_optimizer.npz", allow_pickle=False
)
META = json.loads(str(GOLDEN["meta"]))


@pytest.mark.parametrize("number", range(len(META["schedules"])))
def test_schedules_are_the_references(number):
    case = META["schedules"][number]
    total = case["epochs"] * case["niter_per_ep"]
    warmup = case.get("warmup_steps") or case.get("warmup_epochs", 0) * case["niter_per_ep"]
    schedule = warmup_cosine(
        case["base_value"], case["final_value"], total, warmup, case.get("start_warmup_value", 0.0)
    )
    got = jax.vmap(schedule)(jnp.arange(total))
    np.testing.assert_allclose(got, GOLDEN[f"output/schedule{number}"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("case", sorted(META["groups"]))
def test_parameter_groups_are_the_references(case):
    """Learning-rate scale and weight decay of every parameter, under its torch name."""
    golden = META["groups"][case]
    config = tiny.get_config()
    size = {"fluxvit_small_patch14": "fluxvit_s14", "fluxvit_base_patch14": "fluxvit_b14"}
    config.model = {"name": size[golden["model"]], "dtype": "float32"}
    config.budgets, config.grids.resolutions = (12, 8, 4), (28,)
    config.optim.layer_decay = min(golden["layer_decay"], 1.0)
    config.optim.decay_affine = True
    task = create_task(config)
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    weight_decay = golden["weight_decay"]

    def filled(field):
        """The group's field as arrays of the parameters' shapes, so that names can be mapped."""
        groups = jax.tree.map(lambda g: np.float32(getattr(g, field)), task.groups(params))
        return {"params": jax.tree.map(lambda g, p: np.full(p.shape, g), groups, params)}

    scales, decays = (to_torch(task.model, filled(f)) for f in ("lr_scale", "decay"))
    assert scales.keys() == golden["params"].keys()
    for name, (scale, decay) in golden["params"].items():
        assert np.unique(scales[name]) == pytest.approx(scale, rel=1e-5), name
        assert np.unique(decays[name]) * weight_decay == pytest.approx(decay), name


def test_affine_scales_keep_their_size_unless_the_recipe_is_the_references():
    config = tiny.get_config()
    for decay_affine in (False, True):
        config.optim.decay_affine = decay_affine
        task = create_task(config)
        groups = task.groups(jax.eval_shape(task.init, jax.random.key(0))["params"])
        assert groups["gpe"]["scale"].decay is decay_affine
        assert groups["blocks_0"]["attn"]["lpe"]["scale"].decay is decay_affine
        assert not groups["blocks_0"]["norm1"]["scale"].decay
        assert not groups["position_table"].decay


def test_one_adamw_step_by_hand():
    config = tiny.get_config()
    config.optim.weight_decay, config.optim.clip_norm = 0.1, 1.0
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])}
    groups = {"a": ParamGroup(lr_scale=0.5), "b": ParamGroup(decay=False)}
    optimizer = make_optimizer(config, groups, optax.constant_schedule(0.01))
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}  # norm 5, clipped to 1
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # At the first step Adam's update is the gradient's sign, up to eps.
    np.testing.assert_allclose(updates["a"], [-0.005 * (1 + 0.1), -0.005 * 0.2], rtol=1e-5)
    np.testing.assert_allclose(updates["b"], [-0.01], rtol=1e-5)


def test_an_update_stops_at_the_bounds():
    config = tiny.get_config()
    params = {"scale": jnp.array(4.6), "low": jnp.array(0.05), "free": jnp.array(4.6)}
    inside = ParamGroup(decay=False, bounds=(0.0, 4.6052))
    groups = {"scale": inside, "low": inside, "free": ParamGroup(decay=False)}
    optimizer = make_optimizer(config, groups, optax.constant_schedule(0.1))
    grads = {"scale": jnp.array(-1.0), "low": jnp.array(1.0), "free": jnp.array(-1.0)}
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose([params[n] for n in groups], [4.6052, 0.0, 4.7], atol=1e-5)
    back, _ = optimizer.update(jax.tree.map(lambda g: -20 * g, grads), state, params)
    assert back["scale"] < -0.01 and back["low"] > 0.01, "the way back is free"


def test_frozen_parameters_are_split_off_and_merged_back():
    params = {
        "tower": {"kernel": jnp.ones(2)},
        "head": {"kernel": jnp.ones(3), "bias": jnp.ones(1)},
    }
    groups = jax.tree.map(lambda _: ParamGroup(), params)
    groups["tower"]["kernel"] = ParamGroup(frozen=True)
    trained, frozen = split_params(params, groups)
    assert jax.tree.structure(frozen) == jax.tree.structure({"tower": {"kernel": 0}})
    assert "tower" not in trained
    merged = merge_params(trained, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(params)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warm-up of 5 steps"):
        warmup_cosine(1.0, 0.0, 4, 5)
