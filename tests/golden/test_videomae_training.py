"""VideoMAE's optimizers, schedule and layer decay (v14), masks and pixels (v15)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fluxjax.config.keys import base_config
from fluxjax.convert.videomae import rows_of
from fluxjax.models import create_model
from fluxjax.tasks.base import ParamGroup
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tokens.masking import hidden_per_frame, tube_mask
from fluxjax.tokens.tokens import Tokens, normalize_pixels
from fluxjax.training.optimizers import make_optimizer
from fluxjax.training.schedules import warmup_cosine
from tests.golden import fixture

EXACT = {"default": {"atol": 1e-6}}
BETAS = {"lion": (0.9, 0.95), "adamw_mae": (0.9, 0.95), "adamw": (0.9, 0.999)}


def case_of(name):
    case = fixture("avion", name)
    case.meta["tolerance"] = EXACT
    return case


@pytest.mark.parametrize("name", BETAS)
def test_optimizer_steps(name):
    case = case_of("v14")
    config = base_config()
    config.optim.name = name.partition("_")[0]
    config.optim.b1, config.optim.b2 = BETAS[name]
    config.optim.weight_decay = case.meta["config"]["weight_decay_w"]
    groups = {"w": ParamGroup(), "b": ParamGroup(decay=False)}
    rates = jnp.asarray(case.inputs["lrs"])
    optimizer = make_optimizer(config, groups, lambda count: rates[count])
    params = {part: jnp.asarray(case.inputs[f"p0/{part}"]) for part in groups}

    @jax.jit
    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state, found = optimizer.init(params), []
    for i in range(case.meta["config"]["steps"]):
        gradients = {part: case.inputs[f"grads/{part}"][i] for part in groups}
        params, state = step(params, state, gradients)
        found.append(params)
    for part in groups:
        case.check(f"{name}/{part}", np.stack([params[part] for params in found]))


def test_schedule():
    case, name = case_of("v14"), "pretrain_videomae"
    given = case.meta["config"]["sched_args"][name]
    steps, warmup = (given[key] * given["niter_per_ep"] for key in ("epochs", "warmup_epochs"))
    rates = (given[key] for key in ("base", "final"))
    schedule = warmup_cosine(*rates, steps, warmup, given["start_warmup"])
    case.check(f"schedule/{name}", jax.vmap(schedule)(jnp.arange(steps)))


def test_layer_decay():
    wanted = fixture("avion", "v14").meta["videomae_finetune_groups"]
    sizes = {"width": 16, "depth": 3, "num_heads": 2, "patch": 4, "grid": (2, 2)}
    model = create_model("videomae_ti8", 5, **sizes)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))["params"]
    optim = base_config().optim
    optim.layer_decay = 0.75
    groups = layer_decay(model, params, optim)
    found = {}
    for row in rows_of(model):
        group = groups
        for part in row.paths[0].split("/"):
            group = group[part]
        layer = model.layer_id(tuple(row.paths[0].split("/")))
        decay = optim.weight_decay if group.decay else 0.0
        found[row.name] = {"layer_id": layer, "lr_scale": group.lr_scale, "weight_decay": decay}
    assert found == wanted


def test_tube_masks_have_the_structure_of_avions():
    case = fixture("avion", "v15")
    side, ratio = case.meta["config"]["grid"], case.meta["config"]["mask_ratio"]
    tokens = Tokens.from_video(jnp.zeros((3, 8, side, side, 3)), 1)
    masks = np.asarray(tube_mask(tokens, jax.random.split(jax.random.key(0), 3), ratio))
    for mask in (case.outputs["example_tube_mask"].astype(bool), *masks):
        frames = mask.reshape(8, side * side)
        assert np.all(frames == frames[0]) and frames[0].sum() == hidden_per_frame(side**2, ratio)


def test_pixels():
    case = case_of("v15")
    case.meta["tolerance"] = {"default": {"atol": 1e-5}}
    raw = case.video("raw_bcthw")
    model = create_model("videomae_b16")
    scaled = (raw / 255 - np.float32(model.pixels.mean)) / np.float32(model.pixels.std)
    case.check("norm_timm255", np.moveaxis(scaled, -1, 1))
    whole = np.round(raw).clip(0, 255).astype(np.uint8)
    expected = (whole / 255 - np.array(model.pixels.mean)) / np.array(model.pixels.std)
    np.testing.assert_allclose(normalize_pixels(whole, model.pixels), expected, atol=1e-5)
