"""Loading FluxViT weights: inference of sizes, wrappers, errors, round trips."""

import functools
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fluxjax.convert import fluxvit, shapes
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models import create_model
from fluxjax.weight_files.readers import WeightsError, write_safetensors
from tests.convert.fluxvit_states import CASE, SMALL, TEACHER, assert_same, load, random_state
from tests.convert.make_data import DATA, fluxvit_state


def test_sizes_are_inferred_and_the_round_trip_is_exact():
    config = CASE.meta["config"]
    model, variables = load(CASE.params)
    assert (model.width, model.depth) == (config["embed_dim"], config["depth"])
    assert (model.pooled, model.num_classes) == (config["clip_embed_dim"], config["num_classes"])
    assert model.mlp_ratio == config["mlp_ratio"] and model.layer_scale
    assert_same(to_torch(model, variables), CASE.params)


def test_variables_are_those_of_the_model():
    model, variables = load(CASE.params)
    expected = jax.eval_shape(model.init, jax.random.key(0), CASE.video("x"))
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shapes(variables) == shapes(expected)


@pytest.mark.parametrize(
    ("name", "parameters", "grid"),
    [("fluxvit_s14", 28_846_000, (24, 18, 18)), ("fluxvit_b14", 104_560_000, (32, 20, 20))],
)
def test_released_sizes_need_no_keywords(name, parameters, grid):
    """Tables of S and B have the official parameter counts; loading finds the model again."""
    model = create_model(name)
    rows = fluxvit.rows_of(model)
    assert len(rows) == len({row.name for row in rows})
    assert sum(np.prod(row.shape) for row in rows) == pytest.approx(parameters, abs=500)
    state = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}
    found, variables = load_torch("fluxvit", state)
    assert found == model
    assert variables["params"]["position_table"].shape[:3] == grid


def test_files_wrappers_and_prefixes(tmp_path):
    expected = jax.tree.leaves(load(CASE.params)[1])
    prefixed = {f"backbone.{name}": value for name, value in CASE.params.items()}
    for weights in (
        {"module": CASE.params, "global_steps": 5},
        {"model": {f"module.encoder.{name}": value for name, value in CASE.params.items()}},
        prefixed,
    ):
        found = jax.tree.leaves(load(weights)[1])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    np.savez(tmp_path / "weights.npz", **prefixed)
    write_safetensors(tmp_path / "weights.safetensors", CASE.params)
    for name in ("weights.npz", "weights.safetensors"):
        found = jax.tree.leaves(load(tmp_path / name)[1])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(WeightsError, match="without prefixes"):
        load(prefixed | CASE.params)


def test_bfloat16_and_jax_arrays():
    half = {name: value.astype(ml_dtypes.bfloat16) for name, value in CASE.params.items()}
    half["cls_token"] = jnp.asarray(half["cls_token"])
    model, variables = load(half)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    expected = {name: value.astype(np.float32) for name, value in half.items()}
    assert_same(to_torch(model, variables), expected)


def test_without_layer_scale():
    model, _ = load(CASE.params)
    model = model.clone(layer_scale=None)
    state = random_state(model)
    found, variables = load(state)
    assert found.layer_scale is None
    assert "ls1" not in variables["params"]["blocks_0"]
    assert_same(to_torch(found, variables), state)
    expected = jax.eval_shape(model.init, jax.random.key(0), CASE.video("x"))
    assert jax.tree.structure(variables) == jax.tree.structure(expected)


def test_other_mlp_sizes_and_grids():
    """Hidden sizes that are no multiple of the width; grids of any shape."""
    model, _ = load(CASE.params)
    assert all(int(w * shapes.ratio_of(h, w)) == h for w in (48, 1408, 96) for h in range(1, 700))
    model = model.clone(mlp_ratio=shapes.ratio_of(209, 48), grid=(3, 2, 5), budgets=(9, 5))
    state = random_state(model)
    found, variables = load(state, num_frames=None, image_size=(28, 70), budgets=(9, 5))
    assert found == model
    assert_same(to_torch(found, variables), state)


def test_every_wrong_name_is_in_one_error():
    state = dict(CASE.params)
    del state["pos_embed"], state["clip_projector.2.cross_attn.q_bias"]
    state["blocks.0.norm_1.weight"] = state.pop("blocks.0.norm1.weight")
    state["head.1.bias"] = state["head.1.bias"][:-1]
    state["cls_token"] = state["cls_token"].astype(np.int32)
    with pytest.raises(WeightsError) as error:
        load(state)
    message = str(error.value)
    assert "missing (3): 'pos_embed'" in message
    assert "'blocks.0.norm1.weight' (nearest: 'blocks.0.norm_1.weight')" in message
    assert "'clip_projector.2.cross_attn.q_bias'" in message
    assert "unexpected (1): 'blocks.0.norm_1.weight'" in message
    assert "'head.1.bias' is (9,), expected (10,)" in message
    assert "'cls_token' holds int32, expected floats" in message


def test_weights_of_another_model():
    with pytest.raises(WeightsError, match=r"no tensor is named like .*\['layer1.weight'\]"):
        load({"layer1.weight": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match=r"missing .*nearest: 'clip_projector.norm1_q.weight'"):
        load(TEACHER.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": None}, "pass num_heads="),
        ({"num_heads": 5}, "5 heads do not divide width 48"),
        ({"pool_num_heads": 7}, "pass pool_num_heads="),
        ({"num_frames": None, "image_size": None}, "frames x pixels .* 8x56"),
        ({"num_frames": 9, "image_size": None}, "the position table has 128 rows"),
        ({"num_frames": 7}, r"grid \(7, 4, 4\) of 112 patches"),
        ({"num_class": 3}, "did you mean 'num_classes'"),
        ({"depth": 3}, "'depth' follows from the weights"),
        ({"num_classes": 4}, "10 classes, not 4, .* label_map="),
        ({"label_map": [0, 10]}, "rows 0 to 9"),
        ({"label_map": [0, 1], "num_classes": 3}, "label_map has 2 classes, num_classes is 3"),
        ({"head_key": jax.random.key(0)}, "pass num_classes= with it"),
        ({"budgets": (9, 8)}, "must be 3"),
    ],
)
def test_keywords_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        load(CASE.params, **changes)


def test_unknown_family_and_models_without_official_weights():
    with pytest.raises(ValueError, match="did you mean 'fluxvit'"):
        load_torch("fluxvt", CASE.params)
    with pytest.raises(ValueError, match="Dense has no official weights"):
        to_torch(nn.Dense(3), {})


@functools.cache
def small_forward():
    model, variables = load_torch("fluxvit", fluxvit_state(), **SMALL)
    video = np.random.default_rng(0).standard_normal((2, 2, 28, 42, 3)).astype(np.float32)
    forward = jax.jit(lambda v: model.apply(v, video, budget=8, return_features=True))
    return model, forward, forward(variables)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "pytorch_model.bin"])
def test_file_of_torch_gives_the_logits_of_the_mapping(tmp_path, name):
    """The file was written by `torch.save`, wrapped as DeepSpeed does; no torch is needed."""
    model, forward, expected = small_forward()
    shutil.copy(DATA / "fluxvit.pth", tmp_path / name)
    loaded, variables = load_torch("fluxvit", tmp_path / name, **SMALL)
    assert loaded == model
    assert np.ptp(expected[0]) > 1e-2
    for actual, one in zip(forward(variables), expected, strict=True):
        np.testing.assert_allclose(actual, one, rtol=1e-6, atol=1e-6)


def test_mapping_of_torch_tensors():
    torch = pytest.importorskip("torch")
    _, forward, expected = small_forward()
    state = {name: torch.nn.Parameter(torch.from_numpy(x)) for name, x in fluxvit_state().items()}
    _, variables = load_torch("fluxvit", state, **SMALL)
    np.testing.assert_allclose(forward(variables)[0], expected[0], rtol=1e-6, atol=1e-6)


def test_released_sizes_warn_of_nothing_and_others_of_each_assumption(caplog):
    for name in ("fluxvit_ti14", "fluxvit_s14"):
        model = create_model(name)
        rows = fluxvit.rows_of(model)
        state = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}
        options = {"num_frames": 16} if name == "fluxvit_ti14" else {}
        assert load_torch("fluxvit", state, **options)[0] == model
    assert not caplog.records
    model = create_model("fluxvit_s14", depth=2)  # the same width, so probably the same heads
    state = {
        n: v for n, v in state.items() if not n.startswith("blocks.") or n[7:9] in ("0.", "1.")
    }
    assert load_torch("fluxvit", state)[0] == model
    for text in ("num_heads=6 is", "gelu=tanh is assumed", "pool_num_heads=16 is assumed"):
        assert caplog.text.count(text) == 1


FSDP = "_fsdp_wrapped_module."


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: f"vision_encoder.{n}",
        lambda n: FSDP + n.replace("blocks.1.", f"blocks.1.{FSDP}"),
        lambda n: n.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."),
    ],
)
def test_names_that_wrappers_leave_at_every_level(rename):
    expected = jax.tree.leaves(load(CASE.params)[1])
    state = {rename(name): value for name, value in CASE.params.items()}
    averaged = {"model_state": {f"module.{n}": v for n, v in state.items()} | {
        "n_averaged": np.asarray(3)}}  # fmt: skip
    for weights in (state, averaged):
        found = jax.tree.leaves(load(weights)[1])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
