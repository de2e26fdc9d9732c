"""AVION's released checkpoints: names, arguments, sizes that are told and asked for."""

import argparse
import logging

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.models.avion import AVION_PIXELS
from fluxjax.tokens.tokens import CLIP_PIXELS, IMAGENET_PIXELS
from tests.weight_files.hand_made import number, storage_id, tensor, text, torch_zip

SIZES = {
    "width": 32, "depth": 2, "num_heads": 4, "patch": 4, "grid": (2, 3), "num_frames": 3,
    "embedding": 8, "text_width": 24, "text_depth": 1, "text_heads": 3, "vocab_size": 30,
    "context_length": 6,
}  # fmt: skip
TOLD = {"num_heads": 4, "text_heads": 3, "image_size": (8, 12)}
FLASH = {".attn.in_proj_": ".attn.Wqkv.", ".mlp.c_fc.": ".mlp.fc1.", ".mlp.c_proj.": ".mlp.fc2."}
VIDEO = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 12, 3), np.uint8)
IDS = np.array([[28, 3, 29, 0, 0, 0], [28, 29, 29, 5, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def dual():
    model = fluxjax.create_model("avion_ti8", None, **SIZES)
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO, IDS)
    generator = np.random.default_rng(1)
    draw = lambda x: 0.3 * generator.standard_normal(x.shape, np.float32)  # noqa: E731
    return model, jax.tree.map(draw, variables)


@pytest.fixture(scope="module")
def state(dual):
    return fluxjax.to_torch(*dual)


def flash(state):
    """The names and layout of the released files."""
    named = {}
    for name, value in state.items():
        for plain, other in FLASH.items() if name.startswith("visual.") else ():
            name = name.replace(plain, other)
        named["module." + name] = value
    return named


def released(path, state, **args):
    """A training checkpoint as the official scripts save it: its arguments are a Namespace."""
    body, storages = b"\x80\x02}" + text("epoch") + number(4) + b"s" + text("state_dict") + b"}", {}
    for key, (name, value) in enumerate(state.items()):
        value = np.ascontiguousarray(value, "<f4")
        strides = tuple(int(s) // 4 for s in value.strides)
        stored = storage_id(value.size, str(key))
        body += text(name) + tensor(0, value.shape, strides, stored) + b"s"
        storages[str(key)] = value.tobytes()
    body += b"s" + text("args") + number(argparse.Namespace(**args)) + b"s."
    return torch_zip(path, body, storages)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_released_file_is_read_with_its_arguments(dual, state, tmp_path, caplog):
    path = released(
        tmp_path / "avion.pt", flash(state), model="CLIP_VITB16", norm_style="timm", lr=3e-5,
        betas=(0.9, 0.999), freeze_temperature=True, use_bidirectional_lm=False, resume=None,
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        model, variables = fluxjax.load_torch("avion", path, **TOLD)
    same(variables, dual[1])
    assert model.pixels == IMAGENET_PIXELS and not model.train_temperature
    expected = dual[0].clone(pixels=IMAGENET_PIXELS, train_temperature=False)
    assert model == expected
    assert "train_temperature=False (the checkpoint's args)" in caplog.text
    assert "gelu=exact (as released)" in caplog.text
    other, _ = fluxjax.load_torch("avion", path, pixels=CLIP_PIXELS, gelu="quick", **TOLD)
    assert other.pixels == CLIP_PIXELS and other.gelu == "quick"


def test_arguments_tell_the_heads_of_a_released_size(tmp_path):
    args = {"model": "CLIP_VITL14_336PX", "norm_style": "openai"}
    sizes = SIZES | {"width": 1024, "num_heads": 16, "text_width": 768, "text_heads": 12,
                     "depth": 1, "patch": 2}  # fmt: skip
    model = fluxjax.create_model("avion_ti8", None, **sizes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), VIDEO[:, :, :4, :6], IDS)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    path = released(tmp_path / "large.pt", fluxjax.to_torch(model, zeros), **args)
    found, _ = fluxjax.load_torch("avion", path, image_size=(4, 6))
    assert (found.num_heads, found.text_heads, found.pixels) == (16, 12, AVION_PIXELS)
    with pytest.raises(ValueError, match="shapes do not tell the num_heads .* pass num_heads="):
        fluxjax.load_torch("avion", fluxjax.to_torch(model, zeros), image_size=(4, 6))


def test_other_frames_texts_and_vocabularies(dual, state):
    model, variables = fluxjax.load_torch(
        "avion", state, num_frames=5, context_length=4, vocab_size=33, grid=(3, 3), **TOLD
    )
    params, old = variables["params"], dual[1]["params"]
    assert (model.num_frames, model.context_length, model.vocab_size) == (5, 4, 33)
    assert params["tower"]["temporal_table"].shape == (5, 32) and model.grid == (3, 3)
    np.testing.assert_allclose(
        params["tower"]["temporal_table"][2], old["tower"]["temporal_table"][1], rtol=1e-6
    )
    np.testing.assert_array_equal(
        params["text"]["position_table"], old["text"]["position_table"][:4]
    )
    assert not params["text"]["token_embedding"]["embedding"][30:].any()
    scaled = jax.eval_shape(model.apply, variables, VIDEO[:, :2], IDS[:, :4])
    assert scaled[0].shape == (2, 8)
    for wrong, message in (
        ({"vocab_size": 20}, "vocab_size=20 must be at least the stored 30"),
        ({"num_frames": 1}, "num_frames=1: a video model keeps at least 2"),
        ({"num_frames": 4, "temporal": "cubic"}, "temporal='cubic' is unknown; choose one of"),
        ({"embedding": 4}, "embedding= is for CLIP's weights"),
        ({"width": 4}, "'width' follows from the weights"),
        ({"num_classes": 4}, "makes a new head: pass head_key="),
        ({"head_key": jax.random.key(0)}, "draws a new head: pass num_classes="),
    ):
        with pytest.raises(ValueError, match=message):
            fluxjax.load_torch("avion", state, **TOLD, **wrong)


def test_a_classifier_with_a_new_head_and_back(dual, state):
    model, variables = fluxjax.load_torch(
        "avion", state, num_classes=7, head_key=jax.random.key(1), **TOLD
    )
    params = dict(variables["params"])
    head = params.pop("head")
    same(params, {n: dual[1]["params"][n] for n in ("tower", "ln_post")})
    assert head["kernel"].shape == (32, 7) and not head["bias"].any()
    assert 0.005 < np.std(head["kernel"]) < 0.02
    again, found = fluxjax.load_torch("avion", flash(fluxjax.to_torch(model, variables)), **TOLD)
    same(found, variables)
    assert again.num_classes == 7


def test_what_is_missing_or_unknown_is_listed(state):
    wrong = dict(state)
    del wrong["visual.temporal_embedding"], wrong["textual.ln_final.bias"]
    wrong["visual.head.weight"] = np.zeros((3, 32), np.float32)
    with pytest.raises(fluxjax.WeightsError) as error:
        fluxjax.load_torch("avion", wrong, **TOLD)
    assert "missing (1): 'textual.ln_final.bias'" in str(error.value)
    assert "unexpected (1): 'visual.head.weight'" in str(error.value)


def test_layer_scale_goes_out_and_comes_in():
    model = fluxjax.create_model("avion_ti8", 3, **SIZES, layer_scale=0.5)
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO)
    written = fluxjax.to_torch(model, variables)
    np.testing.assert_array_equal(
        written["visual.transformer.resblocks.1.ls_2.gamma"], np.full(32, 0.5, np.float32)
    )
    same(fluxjax.load_torch("avion", written, **TOLD)[1], variables)
