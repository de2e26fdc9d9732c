"""VideoMAE as AVION has it: pre-training (v07) and the classifier (v08), forward and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.videomae_pretraining import token_indices
from fluxjax.tasks.losses import cross_entropy
from fluxjax.tasks.reconstruct_targets import pixel_targets
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.tokens import normalize_pixels
from tests.golden import fixture, packed, traced

# As the files' own text says; it has several bounds in one sentence.
PRETRAINING = {
    "default": {"rel_l2": 3e-4, "atol": 1e-9},  # gradients
    "pred": {"atol": 5e-5},
    "encoder": {"atol": 5e-5},
    "target": {"atol": 2e-4},
    "loss": {"atol": 0.0, "rtol": 1e-5},
    "table": {"atol": 1e-6},
}
CLASSIFIER = {
    "default": {"rel_l2": 3e-4, "atol": 1e-9},
    "logits": {"atol": 3e-5, "rtol": 1e-4},
}


def case_of(name, tolerance):
    case = fixture("avion", name)
    case.meta["tolerance"] = tolerance
    return case


@functools.cache
def loaded(name):
    config = fixture("avion", name).meta["config"]
    if name == "v07":
        heads = {"decoder_heads": config["decoder_num_heads"]}
        heads["num_heads"] = config["encoder_num_heads"]
        frames = config["clip_length"]
    else:
        heads, frames = {"num_heads": config["num_heads"]}, config["all_frames"]
    case, size = fixture("avion", name), config["img_size"]
    return load_torch("videomae", case.params, num_frames=frames, image_size=size, **heads)


def raw_and_mask(case):
    return case.video("raw_video"), case.inputs["mask"].astype(bool)


def test_pretraining_forward():
    (model, variables), case = loaded("v07"), case_of("v07", PRETRAINING)
    video, mask = raw_and_mask(case)
    pixels = normalize_pixels(video, model.pixels)
    if "norm_video" in case.inputs:
        np.testing.assert_allclose(pixels, case.video("norm_video"), atol=1e-6)
    predicted, calls = traced(model, variables, pixels, mask=mask)
    case.check("pred", predicted)
    if "encoder" in case.outputs:
        case.check("encoder", calls["encoder"][1])
    visible = mask.shape[1] - int(mask[0].sum())
    assert calls["encoder/blocks_0"][0].shape == (len(mask), visible, model.width)
    assert calls["encoder/patch_embed"][0].shape[1] == visible  # hidden ones are not even embedded


def test_position_tables():
    case = case_of("v07", PRETRAINING)
    for name in ("pos_table_encoder", "pos_table_decoder"):
        if name in case.outputs:
            _, rows, width = case.shape(name)
            case.check(name, flat_sincos(width, rows)[None], "table")


def test_pretraining_loss_and_gradients():
    (model, variables), case = loaded("v07"), case_of("v07", PRETRAINING)
    video, mask = raw_and_mask(case)
    hidden, _ = token_indices(jnp.asarray(mask), int(mask[0].sum()))

    @jax.jit
    def step(variables):
        cubes = jnp.take_along_axis(model.cubes(video).values, hidden[..., None], axis=1)

        def loss(variables):
            predicted = model.apply(variables, video, mask)
            error = predicted - pixel_targets(cubes)
            raw = jnp.mean((predicted - pixel_targets(cubes, kind="bytes")) ** 2)
            return jnp.mean(error**2), raw

        (value, raw), gradients = jax.value_and_grad(loss, has_aux=True)(variables)
        return pixel_targets(cubes), value, raw, gradients

    targets, loss, raw, gradients = step(variables)
    case.check("target", targets)
    case.check("loss", loss)
    case.check("loss_raw_pixel_target", raw, "loss")
    gradients = to_torch(model, gradients)
    for name in case.outputs:
        if name.startswith("grad/"):
            case.check(name, gradients[name.removeprefix("grad/")])


def test_pretraining_on_packed_clips():
    """Padding, and room for more tokens than there are, change no prediction."""
    (model, variables), case = loaded("v07"), case_of("v07", PRETRAINING)
    video, mask = raw_and_mask(case)
    tokens = packed(video, model, spare=64, max_grid=(18, 5, 4))
    cubes = model.cubes(tokens)
    room = cubes.valid.shape[1] - mask.shape[1]
    assert room > 0
    mask, hidden = np.pad(mask, ((0, 0), (0, room))), int(mask[0].sum())
    run = jax.jit(lambda v, x, m: model.apply(v, x, m, slots=(20, hidden + 3)))
    predicted = run(variables, cubes, mask)
    case.check("pred", predicted[:, :hidden])


def test_masks_that_do_not_fit():
    (model, variables), case = loaded("v07"), case_of("v07", PRETRAINING)
    video, mask = raw_and_mask(case)
    uneven = mask.copy()
    uneven[0, np.argmin(uneven[0])] = True
    with pytest.raises(ValueError, match=r"must hide the same number of tokens, not \[112, 113\]"):
        model.apply(variables, video, uneven)
    with pytest.raises(ValueError, match=r"must be \[B, N\] of the \[2, 128\] tubelets"):
        model.apply(variables, video, mask[:, 1:])
    jitted = jax.jit(model.apply)  # here the number must follow from mask_ratio
    case.check("pred", jitted(variables, video, mask))
    predicted = jitted(variables, video, uneven)
    assert np.isnan(predicted[0]).all() and np.isfinite(predicted[1]).all()


@pytest.mark.parametrize("name", ["v07", "v08"])
def test_state_dicts_go_back_and_forth(name):
    (model, variables), case = loaded(name), fixture("avion", name)
    state = to_torch(model, variables)
    assert set(state) == set(case.params)
    for tensor, value in case.params.items():
        np.testing.assert_array_equal(state[tensor], value)


@pytest.mark.parametrize("path", ["dense", "packed"])
def test_classifier(path):
    (model, variables), case = loaded("v08"), case_of("v08", CLASSIFIER)
    video = case.video("video")
    clips = video if path == "dense" else packed(video, model, spare=64, max_grid=(18, 5, 4))
    run = jax.jit(lambda v, x: model.apply(v, x, return_features=True))
    logits, features = run(variables, clips)
    case.check("logits", logits)
    case.check("features", features, "logits")


def test_classifier_gradients():
    (model, variables), case = loaded("v08"), case_of("v08", CLASSIFIER)

    @jax.jit
    @jax.value_and_grad
    def loss(variables):
        return cross_entropy(
            model.apply(variables, case.video("video")), case.inputs["soft_target"]
        )

    value, gradients = loss(variables)
    case.check("loss", value, "logits")
    gradients = to_torch(model, gradients)
    for name in case.outputs:
        if name.startswith("grad/"):
            case.check(name, gradients[name.removeprefix("grad/")])
