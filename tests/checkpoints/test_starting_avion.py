"""AVION's models saved, loaded, and as the beginning of classifiers and of longer clips."""

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.starting import start_model
from fluxjax.convert.avion_tables import temporal_table

SIZES = {
    "width": 16, "depth": 1, "num_heads": 2, "patch": 4, "grid": (2, 2), "num_frames": 2,
    "embedding": 8, "text_width": 16, "text_depth": 1, "text_heads": 2, "vocab_size": 30,
    "context_length": 6,
}  # fmt: skip
VIDEO = np.zeros((1, 3, 8, 8, 3), np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = fluxjax.create_model("avion_ti8", None, **SIZES)
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO)
    generator = np.random.default_rng(1)
    draw = lambda x: np.asarray(x + generator.standard_normal(x.shape, np.float32))  # noqa: E731
    variables = jax.tree.map(draw, variables)
    folder = tmp_path_factory.mktemp("avion") / "model"
    fluxjax.save(folder, model, variables)
    return folder, model, variables


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_dual_encoder_comes_back(saved):
    folder, model, variables = saved
    found, loaded = fluxjax.load(folder)
    assert found == model
    same(loaded, variables)
    assert loaded["params"]["logit_scale"].shape == ()


def test_a_classifier_on_more_frames_starts_from_it(saved):
    folder, _, variables = saved
    model = fluxjax.create_model("avion_ti8", 5, **SIZES | {"num_frames": 5})
    initial = jax.jit(model.init)(jax.random.key(2), VIDEO)
    started = start_model(str(folder), model, initial)["params"]
    old, tower = variables["params"], started["tower"]
    assert set(started) == {"tower", "ln_post", "head"}
    same(started["ln_post"], old["ln_post"])
    same(started["head"], initial["params"]["head"])
    same(tower["blocks_0"], old["tower"]["blocks_0"])
    expected = temporal_table(old["tower"]["temporal_table"], 5, "finetune")
    np.testing.assert_allclose(tower["temporal_table"], expected, atol=1e-6)


def test_texts_of_another_length_are_refused(saved):
    folder = saved[0]
    model = fluxjax.create_model("avion_ti8", None, **SIZES | {"context_length": 9})
    initial = jax.jit(model.init)(jax.random.key(2), VIDEO)
    with pytest.raises(fluxjax.WeightsError, match=r"text/position_table is \[6, 16\].* \[9, 16\]"):
        start_model(str(folder), model, initial)
    other = fluxjax.create_model("avion_ti8", None, **SIZES, gelu="quick")
    with pytest.raises(fluxjax.WeightsError, match="gelu='exact' not 'quick'"):
        start_model(str(folder), other, initial)
