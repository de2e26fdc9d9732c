"""UMT's pre-training on video alone: the CLIP teacher (u03, u11) and two whole steps (u05)."""

import functools

import jax
import numpy as np
import optax
import pytest

from fluxjax.config.keys import base_config
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.clip_teacher import teach
from fluxjax.models.internvideo2 import return_layers
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.umt_losses import UTA_KINDS, unit, uta_loss
from fluxjax.tokens.attention_masking import hidden_mask, race, visible_per_frame, visible_tokens
from fluxjax.tokens.resizing import resize_bicubic
from fluxjax.training.optimizers import make_optimizer
from tests.golden import fixture

STEPS = "u05"


@pytest.mark.parametrize("case", ["u03", "u11"])
def test_teacher(case):
    case = fixture("umt", case)
    config = case.meta["config"]
    side = config["input_resolution"] // config["patch_size"]
    model, variables = load_torch(
        "clip", case.params, num_heads=config["heads"], grid=(side, side), gelu="quick"
    )
    state = to_torch(model, variables)
    case.check("loaded_positional_embedding", state["visual.positional_embedding"])
    np.testing.assert_array_equal(
        case.outputs["loaded_conv1_weight"].reshape(-1)[:50],
        state["visual.conv1.weight"].reshape(-1)[: 50 * step(case)][:: step(case)],
    )
    layers = return_layers(
        config["layers"], config["clip_return_layer"], config["clip_return_interval"]
    )
    assert list(layers) == sorted(case.meta["return_index_unsorted"])
    run = jax.jit(functools.partial(model.apply, method=teach), static_argnums=2)
    video, frames = case.video("video"), case.meta["frames"]
    taught = run(variables, video, layers)
    case.check("features_unnormalised", taught.features)
    case.check("features", unit(taught.features))
    case.check("cls_attn", taught.attention)
    shown = ~case.inputs["mask"].reshape(len(video), frames, -1)
    places = np.array([[np.flatnonzero(frame) for frame in clip] for clip in shown], np.int32)
    masked = run(variables, video, layers, places)
    case.check("masked_features_unnormalised", masked.features)
    case.check("masked_cls_attn", masked.attention)


def step(case):
    return case.meta.get("thinned", {}).get("loaded_conv1_weight", {"every": 1})["every"]


def part(prefix):
    params = fixture("umt", STEPS).params
    return {n.removeprefix(prefix): v for n, v in params.items() if n.startswith(prefix)}


def test_two_steps():
    """Teacher, mask, student, loss, gradients and AdamW as the official training runs them."""
    case = fixture("umt", STEPS)
    own, other, adam = (case.meta[key] for key in ("student", "teacher", "adamw"))
    teacher = load_torch("clip", part("teacher/"), num_heads=other["heads"], gelu="quick")
    model, variables = load_torch("umt", part("student/"), num_heads=own["encoder_num_heads"])
    layers = return_layers(
        other["layers"], other["clip_return_layer"], other["clip_return_interval"]
    )
    side = other["input_resolution"]
    optimizer = optimizer_of(model, variables, adam)

    @jax.jit
    def targets(video, draws):
        resized = resize_bicubic(video, (side, side))
        taught = teacher[0].apply(teacher[1], resized, layers, method=teach)
        area = draws.shape[1]
        order = race(taught.attention, draws, visible_per_frame(area, case.meta["mask_ratio"]))
        visible = visible_tokens(order, own["num_frames"], area)
        seen = jax.numpy.take_along_axis(taught.features, visible[None, ..., None], axis=2)
        return resized, taught.attention, visible, unit(seen)

    @jax.jit
    def train_step(params, state, video, visible, seen):
        def losses(params):
            student = unit(model.apply({"params": params}, video, visible, method="student")[0])
            kinds = {kind: uta_loss(student, seen, kind) for kind in UTA_KINDS}
            return kinds["l2"], (student, kinds)

        gradients, out = jax.grad(losses, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, gradients, out

    params = variables["params"]
    state = optimizer.init(params)
    for i in range(2):
        video = case.video(f"video{i}")
        resized, attention, visible, seen = targets(video, case.inputs[f"exponential_draws{i}"])
        params, state, gradients, (student, kinds) = train_step(params, state, video, visible, seen)
        case.check(f"step{i}/cls_attn", attention)
        hidden = hidden_mask(visible, case.inputs[f"exponential_draws{i}"].size // len(video))
        np.testing.assert_array_equal(hidden, case.outputs[f"step{i}/mask"])
        case.check(f"step{i}/student", student)
        case.check(f"step{i}/loss_l2", kinds["l2"])
        case.check(f"step{i}/grad_norm", optax.tree.norm(gradients))
        if i == 0:
            case.check("step0/teacher_video", np.moveaxis(resized, -1, 1))
            case.check("step0/targets", seen)
            for kind in ("mse", "smooth_l1"):
                case.check(f"step0/loss_{kind}", kinds[kind])
            gradients = to_torch(model, {"params": gradients})
            for name in (n for n in case.outputs if n.startswith("step0/grad/")):
                case.check(name, gradients[name.removeprefix("step0/grad/")])
    after = to_torch(model, {"params": params})
    for name in (n for n in case.outputs if n.startswith("after_step1/")):
        case.check(name, after[name.removeprefix("after_step1/")])


def optimizer_of(model, variables, adam):
    """The trainer's own, after its rules say what is decayed, which the fixture lists."""
    config = base_config()
    config.optim.b1, config.optim.b2 = adam["betas"]
    config.optim.eps, config.optim.weight_decay = adam["eps"], adam["decoupled_weight_decay"]
    config.optim.clip_norm = None
    groups = layer_decay(model, variables["params"], config.optim)
    decays = jax.tree.map(
        lambda group, x: np.full(x.shape, group.decay, np.float32), groups, variables["params"]
    )
    for name, value in to_torch(model, {"params": decays}).items():
        listed = fixture("umt", STEPS).meta["weight_decay_per_param"][name]
        assert np.all(value * adam["decoupled_weight_decay"] == np.float32(listed)), name
    rates = np.asarray(adam["lr_per_step"], np.float32)
    return make_optimizer(config, groups, lambda count: jax.numpy.asarray(rates)[count])
