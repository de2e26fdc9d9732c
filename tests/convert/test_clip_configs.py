"""What lies beside CLIP weights: configs, pixel statistics, heads and GELU that they tell."""

import json
import logging

import jax
import numpy as np
import pytest

from fluxjax.convert import clip, mapping
from fluxjax.convert.load import load_torch
from fluxjax.models.registry import create_model, model_fields
from fluxjax.tokens.tokens import CLIP_PIXELS
from fluxjax.weight_files.readers import write_safetensors
from tests.convert.clip_states import HALF, small_state, state_of_size

HF_CONFIG = {
    "model_type": "clip",
    "vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "hidden_act": "gelu", "image_size": 12, "layer_norm_eps": 1e-5},
}  # fmt: skip
OPEN_CONFIG = {
    "model_cfg": {"quick_gelu": True, "vision_cfg": {"width": 32, "layers": 1, "head_width": 4}},
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]},
}


def with_vision(config, **changes):
    config = json.loads(json.dumps(config))
    inner = config.get("model_cfg", config)
    key = "vision_cfg" if inner is not config else "vision_config"
    inner[key].update(changes)
    return config


@pytest.mark.parametrize(
    ("file", "config", "heads", "gelu", "pixels"),
    [
        ("config.json", HF_CONFIG, 2, "exact", CLIP_PIXELS),
        ("config.json", with_vision(HF_CONFIG, hidden_act="quick_gelu"), 2, "quick", CLIP_PIXELS),
        ("config.json", with_vision(HF_CONFIG, hidden_act="gelu_new"), 2, "tanh", CLIP_PIXELS),
        ("config.json", HF_CONFIG["vision_config"] | {"model_type": "clip_vision_model"}, 2,
         "exact", CLIP_PIXELS),
        ("open_clip_config.json", OPEN_CONFIG, 8, "quick", HALF),
        ("open_clip_config.json", {"model_cfg": {"vision_cfg": {"width": 32, "layers": 1,
         "head_width": 16}}}, 2, "exact", CLIP_PIXELS),
        ("open_clip_config.json", with_vision(OPEN_CONFIG, act_kwargs={"approximate": "tanh"}), 8,
         "tanh", HALF),
    ],
)  # fmt: skip
def test_configs_beside_the_weights(tmp_path, caplog, file, config, heads, gelu, pixels):
    write_safetensors(tmp_path / "model.safetensors", small_state())
    (tmp_path / file).write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        caplog.clear()
        with caplog.at_level(logging.INFO, "fluxjax"):
            model, _ = load_torch("clip", path)
        assert (model.num_heads, model.gelu, model.pixels) == (heads, gelu, pixels)
        assert f"num_heads={heads} ({file}), gelu={gelu} ({file})" in caplog.text
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_pixel_statistics_of_the_weights_are_those_that_pixels_are_normalised_by(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", small_state())
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    processor = {"image_mean": list(HALF.mean), "image_std": list(HALF.std)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    model, variables = load_torch("clip", tmp_path)
    assert model.pixels == HALF
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3), np.uint8)
    normalised = ((image / 255 - np.array(HALF.mean)) / np.array(HALF.std)).astype(np.float32)
    forward = jax.jit(model.apply)
    np.testing.assert_allclose(
        forward(variables, image), forward(variables, normalised), rtol=1e-4, atol=1e-4
    )
    other = model.clone(pixels=CLIP_PIXELS)
    assert np.abs(jax.jit(other.apply)(variables, image) - forward(variables, image)).max() > 0.01


@pytest.mark.parametrize(
    ("name", "gelu"),
    [
        ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", "quick"),
        ("vit_b_16-laion400m_e32-55e67d44.pt", "exact"),
        ("CLIP-ViT-H-14-laion2B-s32B-b79K/open_clip_pytorch_model.bin", "exact"),
        ("CLIP-ViT-B-16-DataComp.XL-s13B-b90K/snapshots/1/open_clip_model.safetensors", "exact"),
        ("laion/mine.safetensors", None),  # a folder of anybody's
    ],
)
def test_names_of_open_clip(tmp_path, caplog, name, gelu):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, small_state())
    with caplog.at_level(logging.INFO, "fluxjax"):
        model, _ = load_torch("clip", path, num_heads=4)
    assert model.gelu == (gelu or "quick")
    assert ("gelu=quick is assumed (OpenAI's" in caplog.text) == (gelu is None)


def test_archives_of_openai_are_known_by_their_marks(caplog):
    marks = ("input_resolution", "context_length", "vocab_size")
    state = small_state() | {name: np.asarray(12) for name in marks}
    with caplog.at_level(logging.INFO, "fluxjax"):
        model, _ = load_torch("clip", state, num_heads=4)
    assert model.gelu == "quick" and "gelu=quick (an archive of OpenAI's)" in caplog.text
    assert "is assumed" not in caplog.text
    load_torch("clip", small_state(), num_heads=4)
    assert caplog.text.count("gelu=quick is assumed") == 1


def test_a_config_of_other_weights_is_not_used_and_a_contradiction_is_said(tmp_path, caplog):
    write_safetensors(tmp_path / "model.safetensors", small_state())
    (tmp_path / "config.json").write_text(json.dumps(with_vision(HF_CONFIG, hidden_size=64)))
    model, _ = load_torch("clip", tmp_path, num_heads=4)
    assert model.gelu == "quick"
    assert "width and depth (64, 1), the weights are of (32, 1): it is not used" in caplog.text
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    caplog.clear()
    model, _ = load_torch("clip", tmp_path, num_heads=4, gelu="tanh")
    assert (model.num_heads, model.gelu) == (4, "tanh")
    assert "num_heads=4 was passed, config.json says 2" in caplog.text
    assert "gelu=tanh was passed, config.json says exact" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"model_type": "bert"}', "\x00", '{"model_cfg": {}}', '{"model_cfg": 3}']
    + ['{"model_type": "clip", "vision_config": [1]}', "[" * 100_000]
    + ['{"model_cfg": {"vision_cfg": {"width": 32, "layers": 1, "head_width": 0}}}']
    + ['{"model_cfg": {"vision_cfg": {"width": "32", "layers": 1}}, "preprocess_cfg": 1}'],
)
@pytest.mark.parametrize("file", ["config.json", "open_clip_config.json"])
def test_files_that_are_no_configs_tell_nothing(tmp_path, file, text):
    write_safetensors(tmp_path / "model.safetensors", small_state())
    (tmp_path / file).write_text(text)
    assert load_torch("clip", tmp_path, num_heads=4)[0].gelu == "quick"
    with pytest.raises(ValueError, match="pass num_heads="):
        load_torch("clip", tmp_path)


@pytest.mark.parametrize(
    ("file", "config", "message"),
    [
        ("config.json", with_vision(HF_CONFIG, hidden_act="relu"), "hidden_act 'relu'"),
        ("config.json", with_vision(HF_CONFIG, layer_norm_eps=1e-6), "epsilon 1e-06; only 1e-05"),
        ("open_clip_config.json", with_vision(OPEN_CONFIG, norm_kwargs={"eps": 1e-6}), "epsilon"),
        ("open_clip_config.json", with_vision(OPEN_CONFIG, pool_type="avg"), "pools .* by 'avg'"),
    ],
)
def test_what_no_model_here_does_is_an_error(tmp_path, file, config, message):
    write_safetensors(tmp_path / "model.safetensors", small_state())
    (tmp_path / file).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_torch("clip", tmp_path)


def test_pooling_without_ln_pre_is_an_assumption(caplog):
    load_torch("clip", small_state(ln_pre=False), num_heads=4)
    assert "pooling=cls is assumed" in caplog.text


@pytest.mark.parametrize("gelu", ["quik", "relu"])
def test_an_unknown_gelu_is_refused(gelu):
    with pytest.raises(ValueError, match="choose one of"):
        load_torch("clip", small_state(), num_heads=4, gelu=gelu)


def test_pixels_of_a_width_that_was_released_with_two_kinds(monkeypatch, caplog):
    """open_clip's ViT-L-14 of LAION-2B was trained on pixels from -1 to 1, OpenAI's was not."""
    check = lambda state, rows, what: mapping.check(state, list(rows), what)  # noqa: E731
    monkeypatch.setattr(clip, "to_variables", check)
    load_torch("clip", state_of_size(1024, 24, 4096), gelu="exact")
    assert "pixels=CLIP's is assumed (open_clip's ViT-L-14 of LAION-2B" in caplog.text
    caplog.clear()
    load_torch("clip", state_of_size(768, 12, 3072), gelu="exact")
    assert not caplog.records


@pytest.mark.parametrize("name", ["clip_ti8", "evl_ti8"])
def test_pixels_out_of_a_config_or_a_json_file(name):
    """Flags know how to read tuples; JSON gives lists, and fields of modules must be hashable."""
    assert model_fields(name)["pixels"] is tuple
    model = create_model(name, pixels=[list(HALF.mean), list(HALF.std)])
    assert model.pixels.std == HALF.std and hash(model)
