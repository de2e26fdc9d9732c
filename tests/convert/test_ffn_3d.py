"""SlowFast and UniFormer weights: plain ones fill all branches, old names, wrappers, errors."""

import re

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.ffn_3d_rows import adapted_blocks, rows_of
from fluxjax.models.registry import create_model
from fluxjax.weight_files.errors import WeightsError

PLAIN = {
    "slowfast": {"width": 16, "layers": (1, 2, 1, 1), "frames": (64,)},
    "uniformer": {"widths": (8, 16, 16, 32), "head_dim": 16, "layers": (1, 1, 2, 1)},
}


def released(kind, **fields):
    """A model and a state dict of random numbers under its official names."""
    model = create_model(f"{kind}_ti", 7, **(PLAIN[kind] | fields))
    rng = np.random.default_rng(0)
    state = {
        row.name: rng.uniform(0.5, 1.5, row.shape).astype(np.float32) for row in rows_of(model)
    }
    return model, state


def loading(kind):
    return {"head_dim": 16} if kind == "uniformer" else {}


@pytest.mark.parametrize("kind", PLAIN)
def test_the_table_is_the_models(kind):
    model, _ = released(kind, frames=(2, 5))
    video = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), video)
    shapes = {
        "/".join(key.key for key in path): x.shape
        for path, x in jax.tree_util.tree_leaves_with_path(variables)
    }
    layouts = {}
    for row in rows_of(model):
        (part,) = row.layout.split(np.zeros(row.shape, np.float32))
        layouts["/".join((row.collection, *row.paths))] = part.shape
    assert layouts == shapes


@pytest.mark.parametrize("kind", PLAIN)
def test_a_trained_checkpoint_with_its_wrappers(kind):
    model, state = released(kind, frames=(4, 8, 16))
    file = {f"module.{name}": value for name, value in state.items()}
    counted = [name for name in file if name.endswith("running_var")]
    file |= {name.replace("running_var", "num_batches_tracked"): np.int64(3) for name in counted}
    file = {"model_state": file, "epoch": np.int64(21), "cfg": "MODEL: {}"}
    loaded, variables = fluxjax.load_torch("ffn", file, frames=(4, 8, 16), **loading(kind))
    assert loaded == model.clone(parent=None)
    back = fluxjax.to_torch(loaded, variables)
    assert set(back) == set(state)
    for name in state:
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_checkpoint_fills_all_branches(kind):
    _, state = released(kind)
    model, variables = fluxjax.load_torch(
        "ffn", state, frames=(4, 8, 16), num_classes=11, head_key=jax.random.key(3), **loading(kind)
    )
    assert (model.frames, model.num_classes, model.alters) == ((4, 8, 16), 11, True)
    params, stats = variables["params"], variables["batch_stats"]
    name, ours = {
        "slowfast": ("s3.pathway1_res1.branch2.a_bn", ("s3_fast_res1", "a_bn")),
        "uniformer": ("blocks2.0.norm1", ("blocks2_0", "norm1")),
    }[kind]
    for branch in range(3):
        norm = f"{ours[1]}_{branch}"
        np.testing.assert_array_equal(params[ours[0]][norm]["scale"], state[f"{name}.weight"])
        np.testing.assert_array_equal(stats[ours[0]][norm]["var"], state[f"{name}.running_var"])
    head = params["head"]
    assert head["kernel"].shape[1] == 11 and not np.any(head["bias"])
    assert 0 < np.std(head["kernel"]) < 0.05  # drawn, unlike the state's 0.5 to 1.5
    adapters = [np.ravel(params[b][f"adaconv_{i}"]["kernel"]) for b in adapted_blocks(model)
                for i in range(3)]  # fmt: skip
    assert len(adapters) == 3 * {"slowfast": 10, "uniformer": 5}[kind]
    if kind == "uniformer":
        assert np.std(np.concatenate(adapters)) == pytest.approx(1e-3, rel=0.2)


def test_names_of_caffe2():
    model, state = released("slowfast")
    endings = {"weight": "w", "bias": "b"}, {
        "weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv",
    }  # fmt: skip
    blobs = {"lr": np.float32(0.1), "model_iter": np.int64(9)}
    for name, value in state.items():
        stem, ending = name.rsplit(".", 1)
        norm = stem.endswith("bn")
        stem = stem.replace("head.projection", "pred")
        stem = re.sub(r"s1\.pathway0_stem\.(conv|bn)", _stem, stem)
        stem = re.sub(r"s1\.pathway1_stem\.(conv|bn)", lambda m: "t_" + _stem(m), stem)
        stem = re.sub(r"s1_fuse\.(conv_f2s|bn)", r"t_pool1_subsample_\1", stem)
        stem = re.sub(r"s(\d)_fuse\.(conv_f2s|bn)", r"t_res\1_2_branch2c_bn_subsample_\2", stem)
        stem = stem.removesuffix("_conv_f2s").replace(".branch2.", "_branch2")
        stem = re.sub(r"s(\d)\.pathway0_res(\d)\.?", r"res\1_\2_", stem)
        stem = re.sub(r"s(\d)\.pathway1_res(\d)\.?", r"t_res\1_\2_", stem).replace("__", "_")
        blobs[f"{stem}_{endings[norm][ending]}"] = value
        blobs[f"{stem}_{endings[norm][ending]}_momentum"] = value + 1
    assert {"t_res3_1_branch2a_bn_riv", "res_conv1_bn_s", "t_pool1_subsample_w"} <= set(blobs)
    loaded, variables = fluxjax.load_torch("ffn", blobs)
    assert loaded == model.clone(parent=None)
    back = fluxjax.to_torch(loaded, variables)
    for name in state:
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)


def _stem(match):
    return {"conv": "conv1", "bn": "res_conv1_bn"}[match[1]]


def test_what_does_not_fit_is_told_at_once():
    _, state = released("slowfast")
    del state["s2_fuse.bn.bias"]
    state["s9.extra"] = state.pop("head.projection.bias")
    with pytest.raises(WeightsError, match=r"(?s)missing \(2\): .*s2_fuse.*unexpected \(1\): .*s9"):
        fluxjax.load_torch("ffn", state)
    with pytest.raises(ValueError, match="pass num_classes= and head_key="):
        fluxjax.load_torch("ffn", released("uniformer")[1], frames=(4, 8, 16), head_dim=16)
