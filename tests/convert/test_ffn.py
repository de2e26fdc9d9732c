"""TSM and TEA weights: plain ones in all branches, wrappers of checkpoints, one error for all."""

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.__main__ import main
from fluxjax.tokens.tokens import IMAGENET_PIXELS, PixelStats
from fluxjax.weight_files.errors import WeightsError

SIZES = {"layers": (1, 1), "widths": (64, 128), "stem": 16}
KEY = jax.random.key(3)


def drawn(name, **fields):
    """An official state dict of a small network, every value another."""
    model = fluxjax.create_model(name, 7, **(SIZES | fields))
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(model.init, KEY, video)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    return model, variables, fluxjax.to_torch(model, variables)


@pytest.mark.parametrize(
    "name, fields",
    [
        ("tsm_r50", {}),
        ("tsm_r18_ffn", {"bottleneck": False}),
        ("tsm_r50_ffn", {"frames": (2, 6), "dropout": 0.0}),
        ("tea_r50", {}),
        ("tea_r50_ffn", {}),
        ("tea_r50_ffn", {"adapters": True}),
    ],
)
def test_there_and_back(name, fields):
    model, variables, state = drawn(name, **fields)
    loaded, values = fluxjax.load_torch("ffn", state)
    for field in ("frames", "layers", "widths", "stem", "dropout", "num_classes", "alters"):
        assert getattr(loaded, field) == getattr(model, field), field
    assert jax.tree.structure(values) == jax.tree.structure(variables)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, values, variables)))


def test_three_branches_have_the_released_labels_whatever_their_frames():
    _, _, state = drawn("tsm_r50_ffn", frames=(2, 6, 10))
    assert {"base_model.bn1_4.weight", "base_model.bn1_16.weight"} <= set(state)
    assert fluxjax.load_torch("ffn", state)[0].frames == (4, 8, 16)
    assert fluxjax.load_torch("ffn", state, frames=(2, 6, 10))[0].frames == (2, 6, 10)


def test_a_training_checkpoint():
    model, _, state = drawn("tsm_r50_ffn")
    wrapped = {f"module.{name}": value for name, value in state.items()}
    wrapped["module.base_model.bn1_4.num_batches_tracked"] = np.int64(7)
    loaded, _ = fluxjax.load_torch(
        "ffn",
        {"epoch": 50, "arch": "resnet50", "best_prec1": np.float64(50.8), "state_dict": wrapped},
    )
    assert loaded.widths == model.widths


def imagenet(name):
    """A plain network as ImageNet's checkpoints have it."""
    _, _, state = drawn(name)
    state = {n.removeprefix("base_model."): x for n, x in state.items()}
    state = {n.replace("new_fc", "fc"): x for n, x in state.items()}
    return {n: x for n, x in state.items() if ".me." not in n and ".shifts." not in n}


@pytest.mark.parametrize("name", ["tsm_r50", "tea_r50"])
def test_a_plain_network_fills_all_branches(name):
    state = imagenet(name)
    with pytest.raises(ValueError, match="head_key"):
        fluxjax.load_torch("ffn", state, frames=(4, 8, 16))
    model, variables = fluxjax.load_torch(
        "ffn", state, frames=(4, 8, 16), num_classes=5, head_key=KEY
    )
    params, stats = variables["params"], variables["batch_stats"]
    block = params["layer2_block0"]
    for i in range(3):
        assert np.array_equal(params[f"bn1_{i}"]["scale"], state["bn1.weight"])
        kept = stats["layer2_block0"][f"downsample_bn_{i}"]
        assert np.array_equal(kept["var"], state["layer2.0.downsample.1.running_var"])
    kernel = block["downsample_conv"]["kernel"][0, 0].T
    assert np.array_equal(kernel, state["layer2.0.downsample.0.weight"][:, :, 0, 0])
    assert params["head"]["kernel"].shape == (512, 5)
    assert np.std(params["head"]["kernel"]) == pytest.approx(1e-3, rel=0.1)
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), np.float32)
    assert jax.tree.structure(variables) == jax.tree.structure(
        jax.eval_shape(model.init, KEY, video)
    )
    if name == "tsm_r50":
        assert np.std(block["adaconv_1"]["kernel"]) == pytest.approx((2 / 256) ** 0.5, rel=0.2)
        assert not np.array_equal(block["adaconv_0"]["kernel"], block["adaconv_1"]["kernel"])
    else:
        first, last = (block[f"shifts{i}"]["kernel"] for i in (0, 3))
        assert np.array_equal(first, [[0] * 52, [1] * 52, [0] * 52])
        assert np.array_equal(last, [[0] * 26 + [1] * 26, [0] * 52, [1] * 26 + [0] * 26])


def test_an_inference_checkpoint_holds_the_statistics(tmp_path):
    _, variables, state = drawn("tsm_r50_ffn")
    np.savez(tmp_path / "weights.npz", **state)
    command = ["--family", "ffn", "--source", str(tmp_path / "weights.npz"), "--verify"]
    assert main([*command, "--target", str(tmp_path / "model")]) == 0
    model, values = fluxjax.load(tmp_path / "model")
    assert (model.frames, model.pixels) == ((4, 8, 16), IMAGENET_PIXELS)
    assert isinstance(model.pixels, PixelStats)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, values, variables)))


def test_another_network_gets_one_error():
    with pytest.raises(WeightsError, match="no weights of a frame flexible network"):
        fluxjax.load_torch("ffn", {"blocks.0.norm1.weight": np.zeros(3, np.float32)})
    _, _, state = drawn("tsm_r50_ffn")
    state["base_model.layer1.0.conv2.weight"] = np.zeros((3, 3), np.float32)
    state["extra"] = state.pop("base_model.bn1_8.weight")
    with pytest.raises(WeightsError) as error:
        fluxjax.load_torch("ffn", state)
    assert "missing (1)" in str(error.value) and "unexpected (1)" in str(error.value)
    assert "'base_model.layer1.0.conv2.weight' is (3, 3)" in str(error.value)
    with pytest.raises(ValueError, match="name 2 branches, the checkpoint has 3"):
        fluxjax.load_torch("ffn", state, frames=(4, 8))
