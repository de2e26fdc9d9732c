"""InternVideo2: classifiers (v01, v02, v08), checkpoint loading (v03, v10), teachers (v04, v10)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.internvideo2 import return_layers
from tests.golden import fixture, packed, traced

CLASSIFIERS = pytest.mark.parametrize("case", ["v01", "v02", "v08"])
LOADING = fixture("internvideo2", "v03")
TEACHER = fixture("internvideo2", "v04")


@functools.cache
def loaded(case):
    case = fixture("internvideo2", case)
    return load_torch("internvideo2", case.params, **case.loading)


@CLASSIFIERS
def test_intermediate_tensors(case):
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    logits, calls = traced(model, variables, case.video("video"))
    tokens_in = calls["blocks_0"][0]
    embedded = calls["patch_embed"][1]
    case.check("patch_embed", embedded.reshape(case.shape("patch_embed")))
    case.check("tokens_in", tokens_in)
    for i in range(model.depth):
        case.check(f"block{i}", calls[f"blocks_{i}"][1])
    case.check("clip_projector", calls["pooler"][1])
    case.check("fc_norm", calls["fc_norm"][1])
    case.check("logits", logits)


@pytest.mark.slow
@CLASSIFIERS
def test_other_forwards(case):
    """Packed tokens with padding, tanh GELU, and tokens small enough to show the norms' epsilon."""
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    video = case.video("video")
    small = dict(variables["params"])
    for name in small:
        if name in ("cls_token", "cls_position", "patch_embed") or name.endswith("_table"):
            small[name] = jax.tree.map(lambda x: x * 2.0**-10, small[name])

    @jax.jit
    def forwards(video, tokens):
        return {
            "logits": model.apply(variables, tokens),
            "logits_gelu_tanh": model.clone(gelu="tanh").apply(variables, video),
            "logits_small_tokens": model.apply({"params": small}, video),
        }

    for name, logits in forwards(video, packed(video, model)).items():
        case.check(name, logits)


@pytest.mark.slow
@CLASSIFIERS
def test_gradients(case):
    (model, variables), case = loaded(case), fixture("internvideo2", case)
    labels = case.inputs["labels"]

    @jax.jit
    @jax.value_and_grad
    def cross_entropy(variables):
        log_probs = jax.nn.log_softmax(model.apply(variables, case.video("video")))
        return -jnp.mean(log_probs[np.arange(len(labels)), labels])

    loss, gradients = cross_entropy(variables)
    case.check("loss_ce", loss)
    gradients = to_torch(model, gradients)
    for name in case.outputs:
        if name.startswith("grad/"):
            case.check(name, gradients[name.removeprefix("grad/")])


@pytest.mark.parametrize(
    "wanted", LOADING.meta["grids"], ids=lambda w: f"T{w['num_frames']}-K{w['num_classes']}"
)
def test_load_for_other_grids_and_classes(wanted):
    frames, size, classes = (wanted[key] for key in ("num_frames", "img_size", "num_classes"))
    tag = f"T{frames}_S{size}_K{classes}"
    label_map = LOADING.inputs.get(f"label_map_{classes}")
    if label_map is None and classes != 400:
        label_map = range(classes)  # no official rule: the fixture takes the first rows
    patch = LOADING.meta["config"]["patch_size"]
    model, variables = load_torch(
        "internvideo2",
        LOADING.params,
        **LOADING.loading,
        num_classes=classes,
        label_map=label_map,
        grid=(frames, size // patch, size // patch),
    )
    state = to_torch(model, variables)
    LOADING.check(f"pos_embed_{tag}", state["pos_embed"])
    LOADING.check(f"head_bias_{tag}", state["head.bias"])
    video = LOADING.video(f"video_{tag}")
    LOADING.check(f"logits_{tag}", jax.jit(model.apply)(variables, video))


def test_other_grids_at_run_time():
    """Resampling the table in the forward pass is what loading for that grid does."""
    model, variables = load_torch(
        "internvideo2", LOADING.params, **LOADING.loading, num_classes=400
    )
    LOADING.check(
        "logits_T16_S56_K400", jax.jit(model.apply)(variables, LOADING.video("video_T16_S56_K400"))
    )


def test_return_layers():
    config = TEACHER.meta["config"]
    taught = return_layers(
        config["depth"], config["clip_return_layer"], config["clip_return_interval"]
    )
    assert list(taught) == TEACHER.meta["return_layers"]
    assert return_layers(40, 6, 3.34) == (23, 26, 29, 33, 36, 39)  # the released distillation
    with pytest.raises(ValueError, match="do not fit 2 blocks"):
        return_layers(2, 3)


@pytest.mark.parametrize("path", ["dense", "packed"])
def test_teacher(path):
    model, variables = loaded("v04")
    video = TEACHER.video("video")
    clips = video if path == "dense" else packed(video, model)

    @jax.jit
    def teach(clips):
        layers = (TEACHER.meta["return_layers"], TEACHER.meta["return_layers_index"][::-1])
        return [model.apply(variables, clips, taught, method="teach") for taught in layers]

    taught, by_index = teach(clips)
    tokens = TEACHER.shape("attn")[1]
    TEACHER.check("middle", taught.middle[:, :, : 1 + tokens])
    TEACHER.check("final", taught.final)
    TEACHER.check("final_noattn", taught.final)
    TEACHER.check("attn", taught.attention[:, :tokens])
    assert not np.any(taught.attention[:, tokens:])  # nothing attends to padding
    TEACHER.check("middle_index", by_index.middle[:, :, : 1 + tokens])


def test_teacher_blocks():
    model, variables = loaded("v04")
    layers = TEACHER.meta["return_layers"]
    _, calls = traced(model, variables, TEACHER.video("video"), layers=layers, method="teach")
    TEACHER.check("tokens_in", calls["blocks_0"][0])
    for i in range(model.depth):
        TEACHER.check(f"block{i}", calls[f"blocks_{i}"][1])


def test_stage_2_teacher():
    stage_2 = fixture("internvideo2", "v10")
    config = stage_2.meta["config"]
    side = config["img_size"] // config["patch_size"]
    model, variables = load_torch(
        "internvideo2",
        {"module": stage_2.params},
        **(stage_2.loading | {"num_frames": stage_2.meta["checkpoint_frames"]}),
        grid=(config["num_frames"], side, side),
    )
    state = to_torch(model, variables)
    assert sorted(state) == sorted(stage_2.meta["loaded_keys"])
    stage_2.check("pos_embed", state["pos_embed"])
    layers = stage_2.meta["return_layers"]
    teach = jax.jit(lambda v, x: model.apply(v, x, layers, method="teach"))
    taught = teach(variables, stage_2.video("video"))
    stage_2.check("middle", taught.middle)
    stage_2.check("final", taught.final)
    stage_2.check("attn", taught.attention)
