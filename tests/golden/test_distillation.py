"""InternVideo2's image teacher (v05) and students: distillation (v06, v09), stage 1 (v07)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.internvideo2 import TeacherOutput
from fluxjax.models.students import Visible, aligned_blocks
from fluxjax.tasks.distill_losses import aligned_parts, mae_part
from fluxjax.tokens.race import first_of
from tests.golden import fixture, packed, traced

STUDENTS = pytest.mark.parametrize("case", ["v06", "v07", "v09"])


@functools.cache
def loaded(case):
    case = fixture("internvideo2", case)
    config = case.meta["config"]
    index = config.get("clip_student_return_index")
    return load_torch(
        "internvideo2",
        case.params,
        **case.loading,
        student=True,
        taught_interval=config["clip_student_return_interval"],
        taught_index=None if index is None else tuple(index),
    )


def clips(case):
    """The student's frames: at stage 1 every second one."""
    return np.ascontiguousarray(case.video("video")[:, :: case.meta.get("td_ratio", 1)])


def seen(case):
    """Visible tokens [B, n] by the fixture's rule, from its order or mask."""
    config, ratio = case.meta["config"], case.meta["mask_ratio"]
    area = (config["img_size"] // config["patch_size"]) ** 2
    if case.meta["mask_type"] == "tube":
        mask = case.inputs["tube_mask"]
        return np.nonzero(~mask)[1].reshape(len(mask), -1)
    order = jnp.asarray(case.inputs["importance_order"])
    count = order.shape[1]
    index = np.asarray(first_of(order, count - int(count * ratio)))
    if count > area:  # one draw for the whole clip
        return index
    frames = config["num_frames"]  # one a frame
    index = index.reshape(-1, frames, index.shape[1]) + area * np.arange(frames)[:, None]
    return index.reshape(len(index), -1)


def losses(case, aligned, visible):
    """The weighted loss and its parts."""
    inputs, weights = case.inputs, case.meta["clip_loss_ratio"]
    taught = TeacherOutput(inputs["target_middle"], inputs["target_final"], None)
    parts = aligned_parts(aligned, taught, visible)
    parts = {f"clip_{name}": jnp.mean(value) for name, value in parts.items()}
    total = weights[0] * parts["clip_middle"] + weights[1] * parts["clip_final"]
    if "target_mae" in inputs:
        parts["mae"] = jnp.mean(mae_part(aligned, inputs["target_mae"], visible))
        total += case.meta["mae_loss_ratio"] * parts["mae"]
    return total, parts


@STUDENTS
def test_visible_tokens_are_the_reference_s(case):
    case = fixture("internvideo2", case)
    dropped = np.ones(case.outputs["mask"].shape, bool)
    dropped[:, 0] = False
    np.put_along_axis(dropped, 1 + seen(case), False, axis=1)
    np.testing.assert_array_equal(dropped, case.outputs["mask"])


@STUDENTS
def test_student(case):
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    wanted = case.meta.get("return_layers") or case.meta["clip_return_layers"]
    assert list(aligned_blocks(model)) == wanted
    visible = Visible(jnp.asarray(seen(case)))
    (aligned,), calls = traced(
        model, variables, jnp.asarray(clips(case)), [visible], method="align"
    )
    case.check("tokens_in", calls["blocks_0"][0])
    for i in range(model.depth):
        case.check(f"block{i}", calls[f"blocks_{i}"][1])
    case.check("pooled", calls["pooler"][1])
    case.check("clip_middle", aligned.middle)
    case.check("clip_final", aligned.final)
    if model.mae_layers:
        case.check("mae", aligned.mae)
    total, parts = losses(case, aligned, visible)
    case.check("loss", total)
    for name, value in parts.items():
        case.check(f"loss_{name}", value)


@pytest.mark.parametrize("case", ["v06", pytest.param("v07", marks=pytest.mark.slow),
                                  pytest.param("v09", marks=pytest.mark.slow)])  # fmt: skip
def test_gradients(case):
    """Of packed clips with spare slots, which are the same."""
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    index = jnp.asarray(seen(case))
    tokens = packed(clips(case), model)
    visible = Visible(index, jnp.ones(index.shape, bool))

    @jax.jit
    @jax.value_and_grad
    def loss(variables):
        (aligned,) = model.apply(variables, tokens, [visible], method="align")
        return losses(case, aligned, visible)[0]

    value, gradients = loss(variables)
    case.check("loss", value)
    gradients = to_torch(model, gradients)
    for name in case.outputs:
        if name.startswith("grad/"):
            case.check(name, gradients[name.removeprefix("grad/")])


def test_image_teacher():
    case = fixture("internvideo2", "v05")
    config = case.meta["config"]
    model, variables = load_torch(
        "internvideo2",
        case.params,
        num_heads=config["num_heads"],
        pool_num_heads=config["attn_pool_num_heads"],
        num_frames=1,  # the table is of single frames
        gelu="exact",
    )
    teach = jax.jit(
        lambda v, x: model.apply(v, x, case.meta["return_layers"], method="teach_frames")
    )
    taught = teach(variables, case.video("video"))
    case.check("middle", taught.middle)
    case.check("final", taught.final)
    case.check("attn", taught.attention)


@STUDENTS
def test_official_weights_make_the_round_trip(case):
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    state = to_torch(model, variables)
    assert sorted(state) == sorted(case.params)
    for name, value in case.params.items():
        np.testing.assert_array_equal(state[name], value)
