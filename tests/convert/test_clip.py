"""CLIP weights as clients write them: names, heads, GELU, and what lies beside the weights."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest

from fluxjax.convert import clip, mapping
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.registry import create_model, model_fields
from fluxjax.tokens.tokens import CLIP_PIXELS, PixelStats
from fluxjax.weight_files.readers import WeightsError, write_safetensors
from tests.convert.make_data import DATA

FOLDERS = ("clip_vision_quick", "clip_vision_exact", "clip_projected_exact")
SMALL = {"width": 32, "depth": 1, "num_heads": 4, "patch": 4, "grid": (3, 3), "embedding": 8}


def state_of_size(width, depth, hidden, patch=14):
    """A state dict of OpenAI's names whose tensors take no memory."""
    sizes = {"width": width, "depth": depth, "mlp_ratio": hidden / width, "patch": patch}
    rows = clip.rows_of(ClipImage(**sizes, grid=(16, 16)))
    return {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}


def small_state(seed=0, **changes):
    draw = np.random.default_rng(seed)
    rows = clip.rows_of(ClipImage(**SMALL | changes))
    return {row.name: draw.standard_normal(row.shape, np.float32) for row in rows}


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("entry", ["", "model.safetensors.index.json", "shard"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_of_transformers_give_its_outputs(folder, entry, caplog):
    """Heads of 2 channels, either GELU, with and without projection, names with no common root."""
    folder = DATA / folder
    path = folder / (entry if entry != "shard" else "model-00001-of-00003.safetensors")
    with caplog.at_level(logging.INFO, "fluxjax"):
        model, variables = load_torch("clip", path)
    assert (model.width, model.num_heads) == (32, 16)
    assert model.gelu == folder.name.rpartition("_")[2]
    assert model.embedding == (6 if "projected" in folder.name else None)
    expected = np.load(folder / "io.npz")
    found = jax.jit(model.apply)(variables, expected["x"])
    np.testing.assert_allclose(found, expected["y"], rtol=1e-4, atol=1e-5)
    other = model.clone(gelu="exact" if model.gelu == "quick" else "quick")
    wrong = jax.jit(other.apply)(variables, expected["x"])
    assert np.abs(wrong - expected["y"]).max() > 1e-3
    assert "num_heads=16 (config.json), gelu=" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("width", "depth", "hidden", "heads"),
    [
        (768, 12, 3072, 12),
        (896, 12, 3584, 14),
        (1024, 24, 4096, 16),
        (1280, 32, 5120, 16),  # ViT-H-14
        (1408, 40, 6144, 16),  # ViT-g-14
        (1664, 48, 8192, 16),  # ViT-bigG-14
        (1792, 56, 15360, 16),  # ViT-e-14
    ],
)
def test_heads_of_released_sizes(monkeypatch, width, depth, hidden, heads):
    """As in open_clip's model configs: width / head_width."""
    check = lambda state, rows, what: mapping.check(state, list(rows), what)  # noqa: E731
    monkeypatch.setattr(clip, "to_variables", check)  # gigabytes otherwise
    model, _ = load_torch("clip", state_of_size(width, depth, hidden))
    assert model.num_heads == heads and round(width * model.mlp_ratio) == hidden
    model, _ = load_torch("clip", state_of_size(width, depth, hidden), num_heads=8)
    assert model.num_heads == 8


@pytest.mark.parametrize(("width", "depth"), [(768, 11), (1280, 24), (640, 12), (1152, 27)])
def test_heads_of_other_sizes_must_be_passed(width, depth):
    with pytest.raises(ValueError, match=f"num_heads of .* width {width}; pass num_heads="):
        load_torch("clip", state_of_size(width, depth, 4 * width))


HF_CONFIG = {
    "model_type": "clip",
    "vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "hidden_act": "gelu", "image_size": 12, "layer_norm_eps": 1e-5},
}  # fmt: skip
OPEN_CONFIG = {
    "model_cfg": {"quick_gelu": True, "vision_cfg": {"width": 32, "layers": 1, "head_width": 4}},
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]},
}
HALF = PixelStats((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))


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


BLOCK, FSDP, CHECKPOINT = "resblocks.0.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: f"vision_encoder.{n}",
        lambda n: f"model.vision_encoder.{n.removeprefix('visual.')}",
        lambda n: FSDP + n.replace(BLOCK, BLOCK + FSDP),
        lambda n: n.replace(BLOCK, BLOCK + CHECKPOINT),
        lambda n: n.replace(BLOCK, BLOCK + FSDP + CHECKPOINT),
        lambda n: n.replace(BLOCK, f"{BLOCK}_orig_mod."),
        lambda n: f"module.module.{n}",
        lambda n: f"net._forward_module.{n}",
        lambda n: f"_orig_mod.model.{n}".replace("attn.", "attn.module."),
    ],
)
def test_names_that_wrappers_leave(rename):
    state = small_state()
    expected = load_torch("clip", state, num_heads=4)[1]
    renamed = {rename(name): value for name, value in state.items()}
    assert set(renamed) != set(state)
    same(load_torch("clip", renamed, num_heads=4)[1], expected)


def test_other_parts_of_a_model_of_video_and_text_are_left_out(caplog):
    state = small_state()
    whole = {f"vision_encoder.{name}": value for name, value in state.items()}
    whole |= {"text_encoder.embed.weight": np.zeros(3), "temp": np.ones(())}
    with caplog.at_level(logging.INFO, "fluxjax"):
        found = load_torch("clip", whole, num_heads=4)[1]
    same(found, load_torch("clip", state, num_heads=4)[1])
    assert "those of ['temp', 'text_encoder'] are not" in caplog.text


@pytest.mark.parametrize("name", ["n_averaged", "visual.num_batches_tracked", "step", "initted"])
def test_counts_are_no_weights(name):
    state = small_state()
    value = np.array([True]) if name == "initted" else np.asarray(7)
    averaged = {f"module.{n}": v for n, v in state.items()} | {name: value}
    same(load_torch("clip", averaged, num_heads=4)[1], load_torch("clip", state, num_heads=4)[1])
    with pytest.raises(WeightsError, match="n_average|tracked|step|initted"):
        load_torch("clip", averaged | {name: np.ones(3)}, num_heads=4)


def test_parameters_that_fsdp_flattened_are_refused():
    with pytest.raises(WeightsError, match="FULL_STATE_DICT"):
        load_torch("clip", {"_fsdp_wrapped_module._flat_param": np.zeros(9)}, num_heads=4)


def evl_state(tower):
    from fluxjax.convert.evl import decoder_rows
    from fluxjax.models.evl import Evl

    fields = {name: SMALL[name] for name in ("width", "depth", "num_heads", "patch", "grid")}
    model = Evl(num_classes=3, num_frames=2, decoder_layers=1, qkv_width=32, **fields | tower)
    draw = np.random.default_rng(1)
    return {r.name: draw.standard_normal(r.shape, np.float32) for r in decoder_rows(model)}


def test_an_evl_needs_the_tower_alone():
    """Neither projection nor final norm; frames pooled otherwise do not matter."""
    state = small_state()
    options = {"num_heads": 4, "decoder_heads": 2, "tower_gelu": "exact"}
    _, expected = load_torch("evl", evl_state({}), clip=state, **options)
    for leave_out in (("visual.proj",), ("visual.proj", "visual.ln_post.weight",
                                         "visual.ln_post.bias")):  # fmt: skip
        bare = {name: value for name, value in state.items() if name not in leave_out}
        model, variables = load_torch("evl", evl_state({}), clip=bare, **options)
        same(variables, expected)
        assert model.tower_gelu == "exact"
    with pytest.raises(WeightsError, match="missing.*ln_1.bias"):
        del bare["visual.transformer.resblocks.0.ln_1.bias"]
        load_torch("evl", evl_state({}), clip=bare, **options)


def test_an_evl_takes_what_is_beside_its_clip(tmp_path, caplog):
    shutil.copytree(DATA / "clip_vision_exact", tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": HALF.mean, "image_std": HALF.std})
    )
    state = evl_state({"depth": 2})
    with pytest.raises(ValueError, match="pass decoder_heads="):
        load_torch("evl", state, clip=tmp_path / "clip")
    model, variables = load_torch("evl", state, clip=tmp_path / "clip", decoder_heads=2)
    assert (model.num_heads, model.tower_gelu, model.pixels) == (16, "exact", HALF)
    tower = load_torch("clip", DATA / "clip_vision_exact")[1]["params"]["tower"]
    same(variables["params"]["tower"], tower)
    assert not caplog.records
    model, _ = load_torch(
        "evl", state, clip=tmp_path / "clip", decoder_heads=2, pixels=CLIP_PIXELS, num_heads=8
    )
    assert (model.num_heads, model.pixels) == (8, CLIP_PIXELS)


def test_a_model_without_projection_is_written_back_and_stored(tmp_path):
    import fluxjax

    state = {name: value for name, value in small_state().items() if name != "visual.proj"}
    model, variables = load_torch("clip", state, num_heads=4, pixels=HALF)
    assert model.embedding is None
    found = to_torch(model, variables)
    assert found.keys() == state.keys()
    same(found, state)
    fluxjax.save(tmp_path / "m", model, variables)
    again, stored = fluxjax.load(tmp_path / "m")
    assert again == model and again.pixels.mean == HALF.mean
    same(stored, variables)


def test_an_evl_with_a_backbone_of_unknown_size(caplog):
    from fluxjax.convert.evl import rows_of
    from fluxjax.models.evl import Evl

    fields = {name: SMALL[name] for name in ("width", "depth", "num_heads", "patch", "grid")}
    model = Evl(
        num_classes=3, num_frames=2, decoder_layers=1, qkv_width=32, decoder_heads=2, **fields
    )
    state = {row.name: np.ones(row.shape, np.float32) for row in rows_of(model)}
    with pytest.raises(ValueError, match="pass num_heads="):
        load_torch("evl", state, decoder_heads=2)
    with caplog.at_level(logging.INFO, "fluxjax"):
        found, _ = load_torch("evl", state, num_heads=4, decoder_heads=2)
    assert found == model
    for text in ("tower_gelu=quick (as released)", "pixels=CLIP's (as released)"):
        assert text in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    changed, _ = load_torch("evl", state, num_heads=4, decoder_heads=2, tower_gelu="exact")
    assert changed.tower_gelu == "exact"


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
