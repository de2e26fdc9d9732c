"""CLIP weights as clients write them: names, heads and towers inside of other models."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest

from fluxjax.convert import clip, mapping
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.tokens.tokens import CLIP_PIXELS
from fluxjax.weight_files.readers import WeightsError
from tests.convert.clip_states import HALF, SMALL, same, small_state, state_of_size
from tests.convert.make_data import DATA

FOLDERS = ("clip_vision_quick", "clip_vision_exact", "clip_projected_exact")
BLOCK, FSDP, CHECKPOINT = "resblocks.0.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."


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
