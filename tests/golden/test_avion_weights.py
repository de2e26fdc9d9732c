"""CLIP inflated to video, and AVION's optimizer groups and schedules, against the official code."""

import jax
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.convert.avion_names import plain_state
from fluxjax.convert.avion_rows import rows_of
from fluxjax.convert.avion_tables import temporal_table
from fluxjax.tasks.base import ParamGroup
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.training.optimizers import make_optimizer
from fluxjax.training.schedules import warmup_cosine
from tests.golden import fixture

VARIANTS = (
    "fast0_flash0", "fast1_flash0", "fast1_flash0_ctxlong", "fast1_flash0_ctxshort_vocabgrow",
    "fast1_flash1",
)  # fmt: skip
CLIP_HEADS = {"num_heads": 4, "text_heads": 3}


def clip_state(case):
    return {n.removeprefix("sd/"): x for n, x in case.inputs.items() if n.startswith("sd/")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_clip_is_inflated(variant):
    case = fixture("avion", "v13")
    state = clip_state(case)
    sizes = case.meta["config"]["variants"][variant]
    sizes = {n: sizes[n] for n in ("context_length", "vocab_size") if n in sizes}
    model, variables = fluxjax.load_torch(
        "avion", state, num_frames=3, embedding=7, **CLIP_HEADS, **sizes
    )
    assert (model.gelu, model.epsilon, model.text_epsilon) == ("quick", 1e-5, 1e-5)
    found = fluxjax.to_torch(model, variables)
    copied = case.meta["key_map"][variant]
    for target, source in copied.items():
        expected = case.outputs[f"{variant}/{target}"] if source is None else state[source]
        ((name, expected),) = plain_state({target: expected}).items()
        np.testing.assert_array_equal(found.pop(name), expected)
    assert sorted(found) == case.meta["load_result"]["fast1_flash0"]["missing"]
    np.testing.assert_array_equal(found["visual.temporal_embedding"], np.zeros((3, 16)))
    np.testing.assert_allclose(found["logit_scale"], np.log(1 / 0.07), rtol=1e-6)
    assert found["visual.image_projection"].shape == (16, 7)
    assert 0.5 < 16 * found["visual.image_projection"].var() < 1.5
    assert 0.5 < 12 * found["textual.text_projection"].var() < 1.5


def test_clips_own_projections():
    case = fixture("avion", "v13")
    state = clip_state(case)
    model, variables = fluxjax.load_torch("avion", state, embedding="clip", **CLIP_HEADS)
    found = fluxjax.to_torch(model, variables)
    assert model.embedding == 10 and model.num_frames == 4
    np.testing.assert_array_equal(found["visual.image_projection"], state["visual.proj"])
    np.testing.assert_array_equal(found["textual.text_projection"], state["text_projection"])
    assert found["logit_scale"] == state["logit_scale"]


def test_tables_of_other_numbers_of_frames():
    case = fixture("avion", "v13")
    names = [name for name in case.outputs if name.startswith(("temporal/", "resume/"))]
    assert len(names) == 8
    for name in names:
        expected = case.outputs[name]
        how = "nearest" if name.endswith("interp") else "finetune"
        how = "resume" if name.startswith("resume/") else how
        found = temporal_table(case.inputs[name], len(expected), how)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


def groups_of(model):
    """Torch name -> what the optimizer does with it."""
    params = jax.eval_shape(
        model.init, jax.random.key(0), np.zeros((1, 3, 16, 16, 3)), np.zeros((1, 12), np.int32)
    )["params"]
    groups = layer_decay(model, params, base_config("avion_ti8").optim)
    flat = {
        "/".join(key.key for key in path): group
        for path, group in jax.tree_util.tree_leaves_with_path(
            groups, is_leaf=lambda x: isinstance(x, ParamGroup)
        )
    }
    return {row.name: flat[row.paths[-1]] for row in rows_of(model)}


def test_which_parameters_decay():
    case = fixture("avion", "v14")
    sizes = {"width": 32, "depth": 2, "num_heads": 4, "patch": 4, "grid": (4, 4), "num_frames": 3}
    text = {"text_width": 24, "text_depth": 1, "text_heads": 3, "vocab_size": 61}
    model = fluxjax.create_model("avion_ti8", None, context_length=12, **sizes, **text)
    groups = groups_of(model)
    for decay, names in ((True, "clip_with_wd"), (False, "clip_without_wd")):
        found = {name for name, group in groups.items() if group.decay is decay}
        assert found == set(case.meta[names])
    assert all(group.lr_scale == 1 and not group.frozen for group in groups.values())
    assert groups["logit_scale"].bounds == (0.0, pytest.approx(np.log(100)))
    frozen = groups_of(model.clone(train_temperature=False))
    assert [name for name, group in frozen.items() if group.frozen] == ["logit_scale"]


@pytest.mark.parametrize("name", ["pretrain_videomae", "finetune_cls", "mir", "no_warmup_const"])
def test_learning_rates(name):
    case = fixture("avion", "v14")
    told = case.meta["config"]["sched_args"][name]
    steps, warmup = (told[k] * told["niter_per_ep"] for k in ("epochs", "warmup_epochs"))
    schedule = warmup_cosine(told["base"], told["final"], steps, warmup, told["start_warmup"])
    found = jax.jit(jax.vmap(schedule))(np.arange(steps))
    np.testing.assert_allclose(found, case.outputs[f"schedule/{name}"], rtol=1e-5, atol=1e-9)


DECAY = {"w": ParamGroup(decay=True), "b": ParamGroup(decay=False)}
ONLY_W = {"w": True, "b": False}


def optimizer(kind, schedule, weight_decay):
    if kind.startswith("adamw"):
        config = base_config("avion_ti8")
        config.optim.weight_decay, config.optim.eps, config.optim.clip_norm = (
            weight_decay,
            1e-8,
            None,
        )
        config.optim.b1, config.optim.b2 = 0.9, 0.95 if kind == "adamw_mae" else 0.999
        return make_optimizer(config, DECAY, schedule)
    decay = optax.add_decayed_weights(weight_decay, mask=ONLY_W)
    if kind == "sgd":
        return optax.chain(decay, optax.trace(0.9), optax.scale_by_learning_rate(schedule))
    return optax.lion(schedule, 0.9, 0.95, weight_decay=weight_decay, mask=ONLY_W)


@pytest.mark.parametrize("kind", ["lion", "adamw", "adamw_mae", "sgd"])
def test_optimizers(kind):
    case = fixture("avion", "v14")
    rates = case.inputs["lrs"]
    params = {name: case.inputs[f"p0/{name}"] for name in "wb"}
    steps = optimizer(kind, lambda step: jax.numpy.asarray(rates)[step], 0.05)

    @jax.jit
    def update(params, state, gradients):
        updates, state = steps.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = steps.init(params)
    for i in range(len(rates)):
        gradients = {name: case.inputs[f"grads/{name}"][i] for name in "wb"}
        params, state = update(params, state, gradients)
        for name in "wb":
            expected = case.outputs[f"{kind}/{name}"][i]
            np.testing.assert_allclose(params[name], expected, atol=1e-6)
