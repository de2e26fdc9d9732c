"""AVION's towers, dual encoder and classifier against the official code."""

import functools

import jax
import numpy as np

import fluxjax
from fluxjax.tasks.contrastive import contrastive_loss
from tests.golden import fixture, traced


def loaded(case, **overrides):
    config = case.meta["config"]
    vision = config.get("vision", config)["heads"]
    text = config.get("text", config).get("heads")
    return fluxjax.load_torch("avion", case.params, num_heads=vision, text_heads=text, **overrides)


def test_video_tower():
    case = fixture("avion", "v01_")
    model, variables = loaded(case)
    assert (model.num_frames, model.gelu, model.epsilon) == (4, "exact", 1e-6)
    video = case.video("video")
    features, calls = traced(model, variables, video, method="encode_video")
    case.check("embed", calls["tower/norm_pre"][0])
    case.check("ln_pre", calls["tower/norm_pre"][1])
    case.check("block0", calls["tower/blocks_0"][1].out)
    case.check("pooled", calls["ln_post"][0])
    case.check("ln_post", calls["ln_post"][1])
    case.check("feat", features)
    for wrong in ({"gelu": "tanh"}, {"epsilon": 1e-5}):
        other = np.asarray(model.clone(**wrong).apply(variables, video, method="encode_video"))
        assert np.abs(other - features).max() > 1e-4, wrong


def test_video_tower_of_images():
    case = fixture("avion", "v01b")
    model, variables = loaded(case)
    assert model.num_frames == 1 and "temporal_table" not in variables["params"]["tower"]
    images = np.ascontiguousarray(case.inputs["video"].transpose(0, 2, 3, 1))
    encode = jax.jit(functools.partial(model.apply, method="encode_video"))
    case.check("feat", encode(variables, images))
    np.testing.assert_array_equal(encode(variables, images[:, None]), encode(variables, images))


def test_text_tower():
    case = fixture("avion", "v02")
    model, variables = loaded(case)
    assert set(variables["params"]) == {"text", "logit_scale"}
    ids = case.inputs["ids"]
    features, calls = traced(model, variables, ids, method="encode_text")
    case.check("ln_final", calls["text/norm"][1])
    case.check("feat", features)
    both_ways = model.clone(causal=False).apply(variables, ids, method="encode_text")
    case.check("feat_bidirectional", both_ways)


def test_dual_encoder():
    case = fixture("avion", "v03")
    model, variables = loaded(case)
    video, text, scale = jax.jit(model.apply)(variables, case.video("video"), case.inputs["ids"])
    case.check("image_embed", video)
    case.check("text_embed", text)
    case.check("logit_scale_exp", scale)
    written = fluxjax.to_torch(model, variables)
    assert set(written) == set(case.params)
    for name, value in written.items():
        np.testing.assert_array_equal(value, case.params[name])


def test_classifier():
    case = fixture("avion", "v04b")
    model, variables = loaded(case)
    assert model.num_classes == 11
    case.check("logits", jax.jit(model.apply)(variables, case.video("video")))
    written = fluxjax.to_torch(model, variables)
    for name, value in case.params.items():
        np.testing.assert_array_equal(written[name], value)


def test_loss_and_gradients():
    case = fixture("avion", "v04_")
    model, variables = loaded(case)
    video, ids = case.video("video"), case.inputs["ids"]

    def loss(variables):
        features = model.apply(variables, video, ids)
        value, accuracy = contrastive_loss(*features)
        return value, (accuracy, features)

    (value, (accuracy, features)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        variables
    )
    case.check("loss", value)
    case.check("clip_acc", 100 * accuracy, "loss")
    logits = features[2] * features[0] @ features[1].T
    case.check("logits_per_image", logits, "loss")
    found = fluxjax.to_torch(model, gradients)
    expected = {n: g for n, g in case.outputs.items() if n.startswith("grad/")}
    for name, gradient in expected.items():
        error = np.linalg.norm(found[name.removeprefix("grad/")] - gradient)
        assert error < 2e-4 * np.linalg.norm(gradient), name
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in found.values()))
    np.testing.assert_allclose(norm, case.outputs["grad_global_norm"], rtol=2e-4)
