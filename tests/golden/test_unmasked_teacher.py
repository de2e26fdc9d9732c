"""UMT's pre-training, two optimizer steps of the task `distill` with a CLIP teacher (u05)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config, check_config
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.tasks.distill import DistillTask
from fluxjax.tasks.distill_models import seen_by_teacher
from fluxjax.tasks.umt_losses import UTA_KINDS
from fluxjax.tokens.attention_masking import hidden_mask
from fluxjax.tokens.tokens import unpatchify
from fluxjax.training.optimizers import make_optimizer
from tests.golden import fixture, packed

CASE = fixture("umt", "u05")
_STUDENT = ("width", "depth", "num_heads", "patch", "taught_layers", "taught_interval")


class GivenNoise(DistillTask):
    """The task with the fixture's draws in the place of its own."""

    def noise(self, draw, number, clips):
        given = jnp.stack([CASE.inputs[f"exponential_draws{step}"] for step in range(2)])
        return given[draw[0]].reshape(clips.valid.shape)


@functools.cache
def loaded(which):
    params = {n.removeprefix(f"{which}/"): x for n, x in CASE.params.items() if n.startswith(which)}
    if which == "student":
        heads = CASE.meta["student"]["encoder_num_heads"]
        return load_torch("umt", params, num_heads=heads)
    return load_torch("clip", params, num_heads=CASE.meta["teacher"]["heads"], gelu="quick")


def config_of(folder):
    own, teacher, adam = (CASE.meta[key] for key in ("student", "teacher", "adamw"))
    model, _ = loaded("student")
    config = base_config("umt_student_ti8", "distill")
    config.model.update({name: getattr(model, name) for name in _STUDENT})
    config.distill.teacher, config.distill.teacher_dtype = str(folder), "float32"
    config.distill.teacher_interval = float(teacher["clip_return_interval"])
    config.distill.mask_over = "frame"
    frames, side = own["num_frames"], own["img_size"]
    area = (side // own["patch_size"]) ** 2
    config.budgets = (frames * (area - int(area * CASE.meta["mask_ratio"])),)
    config.grids.frames, config.grids.resolutions = (frames,), (side,)
    config.grids.min_tokens = config.grids.max_tokens = frames * area
    config.eval.grids, config.data.flip = (f"{frames}x{side}",), False
    config.optim.b1, config.optim.b2 = adam["betas"]
    config.optim.eps, config.optim.weight_decay = adam["eps"], adam["decoupled_weight_decay"]
    config.optim.clip_norm = CASE.meta["clip_grad"]
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    fluxjax.save(folder, *loaded("teacher"))
    return folder


def batch_of(model, number):
    tokens = packed(CASE.video(f"video{number}"), model, spare=0)
    draws = np.full(len(tokens.values), number, np.int32)
    return {"patches": tokens.values, "grid": tokens.grid, "draw": draws}


def test_two_steps(folder):
    config = config_of(folder)
    check_config(config)
    task = GivenNoise(config)
    model, variables = loaded("student")
    constants = task.constants().load()
    rates = jnp.asarray(CASE.meta["adamw"]["lr_per_step"])
    params = variables["params"]
    optimizer = make_optimizer(task.config, task.groups(params), lambda step: rates[step])
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, batch):
        def loss(params):
            both = {"params": params, **constants}
            output = task.loss(both, batch, jax.random.key(0), None)
            return output.total, output

        (total, output), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, total, output.terms, grads

    for number in range(2):
        batch = batch_of(model, number)
        params, opt_state, total, terms, grads = step(params, opt_state, batch)
        assert list(terms) == ["middle"]
        CASE.check(f"step{number}/loss_l2", total)
        CASE.check(f"step{number}/grad_norm", optax.tree.norm(grads))
        if number == 0:
            check_all("step0/grad/", to_torch(model, {"params": grads}))
    check_all("after_step1/", to_torch(model, {"params": params}))


def check_all(prefix, arrays):
    names = [name for name in CASE.outputs if name.startswith(prefix)]
    assert names
    for name in names:
        CASE.check(name, arrays[name.removeprefix(prefix)])


def test_what_is_compared_and_the_other_distances(folder):
    tasks = []
    for kind in UTA_KINDS:
        config = config_of(folder)
        config.distill.distance = kind
        tasks.append(GivenNoise(config))
    task, (model, variables) = tasks[0], loaded("student")
    variables = {**variables, **task.constants().load()}

    @jax.jit
    def compared(batch):
        losses = [jnp.mean(one.losses(variables, batch, None).popitem()[1]) for one in tasks]
        clips, taught = task.taught(variables, batch)
        shown = seen_by_teacher(clips, task.model, task.teacher)
        visible = task._visible(taught.attention, clips, batch["draw"])
        own = {"params": variables["params"]}
        return shown, taught, visible, model.apply(own, clips, visible, method="align"), losses

    shown, taught, (visible,), (aligned,), losses = compared(batch_of(model, 0))
    frames = CASE.meta["student"]["num_frames"]
    side = CASE.meta["teacher"]["input_resolution"]
    pixels = unpatchify(shown.values, shown.static_grid, task.teacher.patch)
    assert pixels.shape[1:4] == (frames, side, side)
    CASE.check("step0/teacher_video", np.moveaxis(pixels, -1, 1))
    attention = np.reshape(taught.attention, CASE.shape("step0/cls_attn"))
    CASE.check("step0/cls_attn", attention)
    hidden = hidden_mask(visible.index, taught.attention.shape[1])
    np.testing.assert_array_equal(hidden, CASE.outputs["step0/mask"])
    index = visible.index[None, ..., None]
    CASE.check("step0/targets", np.take_along_axis(taught.middle, index, axis=2))
    CASE.check("step0/student", aligned.middle)
    for kind, loss in zip(UTA_KINDS, losses, strict=True):
        CASE.check(f"step0/loss_{kind}", loss)
