"""Distillation from a video teacher, two optimizer steps of the task `distill` (u09)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.tasks.distill import DistillTask
from fluxjax.training.optimizers import make_optimizer
from tests.golden import fixture, packed

CASE = fixture("umt", "u09")
_TASK_FIELDS = ("width", "depth", "num_heads", "grid", "pooled", "pool_heads", "patch", "gelu")


class GivenNoise(DistillTask):
    """The task with the fixture's draws in the place of its own."""

    def noise(self, draw, number, clips):
        return jnp.asarray([CASE.inputs[f"exponential_draws{step}"] for step in range(2)])[draw[0]]


@functools.cache
def loaded(which):
    config = CASE.meta[which]
    params = {n.removeprefix(f"{which}/"): x for n, x in CASE.params.items() if n.startswith(which)}
    student = which == "student"
    return load_torch(
        "internvideo2",
        params,
        num_heads=config["num_heads"],
        pool_num_heads=config["attn_pool_num_heads"],
        num_frames=config["num_frames"],
        image_size=config["img_size"],
        gelu="exact",
        student=student,
        **({"taught_interval": config["clip_student_return_interval"]} if student else {}),
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    fluxjax.save(folder, *loaded("teacher"))
    model, _ = loaded("student")
    config = base_config("internvideo2_student_s14", "distill")
    fields = {name: getattr(model, name) for name in (*_TASK_FIELDS, "taught_layers")}
    config.model.update(fields | {"taught_interval": model.taught_interval, "hidden": True})
    config.distill.teacher, config.distill.teacher_dtype = str(folder), "float32"
    config.distill.teacher_interval = CASE.meta["teacher"]["clip_return_interval"]
    tokens = int(np.prod(model.grid))
    config.budgets = (tokens - int(tokens * CASE.meta["mask_ratio"]),)
    config.grids.frames, config.grids.resolutions = (model.grid[0],), (28,)
    config.grids.min_tokens = config.grids.max_tokens = tokens
    config.eval.grids = (f"{model.grid[0]}x28",)
    adam = CASE.meta["adamw"]
    config.optim.b1, config.optim.b2 = adam["betas"]
    config.optim.eps, config.optim.weight_decay = adam["eps"], adam["decoupled_weight_decay"]
    config.optim.clip_norm = CASE.meta["clip_grad_norm"]
    return GivenNoise(config)


def test_layers_and_weight_decay(task):
    teacher = sorted(CASE.meta["teacher_return_index_unsorted"])
    assert list(task.taught_layers) == teacher
    _, variables = loaded("student")
    groups = task.groups(variables["params"])
    decays = jax.tree.map(lambda x, g: np.full(x.shape, g.decay, np.float32),
                          variables["params"], groups)  # fmt: skip
    decays = to_torch(task.model, {"params": decays})
    for name, decay in CASE.meta["weight_decay_per_param"].items():
        assert np.all(decays[name] == (decay > 0)), name


def test_two_steps(task):
    model, variables = loaded("student")
    constants = task.constants().load()
    rates = jnp.asarray(CASE.meta["adamw"]["lr_per_step"])
    params = variables["params"]
    optimizer = make_optimizer(task.config, task.groups(params), lambda step: rates[step])
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, batch):
        def loss(params):
            output = task.loss({"params": params, **constants}, batch, jax.random.key(0), None)
            return output.total, output

        (total, output), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, total, output.terms, grads

    for number in range(2):
        tokens = packed(CASE.video(f"video{number}"), model, spare=0, max_grid=model.grid)
        batch = {"patches": tokens.values, "grid": tokens.grid,
                 "draw": np.full(2, number, np.int32)}  # fmt: skip
        params, opt_state, total, terms, grads = step(params, opt_state, batch)
        CASE.check(f"step{number}/loss", total)
        CASE.check(f"step{number}/grad_norm", optax.tree.norm(grads))
        if number == 0:
            CASE.check("step0/loss_middle", terms["middle"][0])
            CASE.check("step0/loss_final", terms["final"][0])
            check_all("step0/grad/", to_torch(model, {"params": grads}))
    check_all("after_step1/", to_torch(model, {"params": params}))


def check_all(prefix, arrays):
    names = [name for name in CASE.outputs if name.startswith(prefix)]
    assert names
    for name in names:
        CASE.check(name, arrays[name.removeprefix(prefix)])


def test_what_the_task_compares(task):
    """Teacher, attention, visible tokens and student of both steps; the student of the first."""
    model, variables = loaded("student")
    constants = task.constants().load()
    variables = {**variables, **constants}

    @jax.jit
    def compared(batch):
        clips = task.tokens(batch)
        taught = task.teacher.apply(
            {"params": constants["teacher"]}, clips, task.taught_layers, method="teach"
        )
        visible = task._visible(taught.attention, clips, batch["draw"])
        own = {"params": variables["params"]}
        return taught, visible, model.apply(own, clips, visible, method="align")

    tokens = packed(CASE.video("video0"), model, spare=0, max_grid=model.grid)
    batch = {"patches": tokens.values, "grid": tokens.grid, "draw": np.zeros(2, np.int32)}
    taught, (visible,), (aligned,) = compared(batch)
    CASE.check("step0/teacher_middle", taught.middle)
    CASE.check("step0/teacher_final", taught.final)
    CASE.check("step0/pool_attn", taught.attention)
    hidden = np.ones(CASE.outputs["step0/mask_with_cls"].shape, bool)
    hidden[:, 0] = False
    np.put_along_axis(hidden, 1 + np.asarray(visible.index), False, axis=1)
    np.testing.assert_array_equal(hidden, CASE.outputs["step0/mask_with_cls"])
    CASE.check("step0/student_middle", aligned.middle)
    CASE.check("step0/student_final", aligned.final)
