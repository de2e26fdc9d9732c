"""Names of models, what `create_model` refuses, and models without heads."""

import jax
import numpy as np
import pytest

import fluxjax
from tests import tiny

SIZES = {"width": 16, "depth": 1, "num_heads": 2}
FLUX = {**SIZES, "pooled": 16, "pool_heads": 2, "grid": (2, 2, 2), "budgets": (4, 2)}
EVL = {key: value for key, value in tiny.evl_config().model.items() if value is not None}
EVL = {key: value for key, value in EVL.items() if key not in ("name", "dtype")}
VIDEO = np.random.default_rng(0).integers(0, 256, (2, 2, 28, 28, 3), np.uint8)


def test_names_by_pattern():
    assert fluxjax.list_models("fluxvit_*14") == [
        "fluxvit_b14", "fluxvit_s14", "fluxvit_student_b14", "fluxvit_student_s14",
        "fluxvit_student_ti14", "fluxvit_ti14",
    ]  # fmt: skip
    assert {"clip_b16", "evl_b16", "videomae_b16"} <= set(fluxjax.list_models("*_b16"))
    assert all(name.endswith("_b16") for name in fluxjax.list_models("*_b16"))
    assert fluxjax.list_models("swin*") == []
    assert set(fluxjax.list_models("fluxvit*")) < set(fluxjax.list_models())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("fluxvit_ti14", FLUX),
        ("evl_ti8", EVL),
        ("internvideo2_s14", {key: FLUX[key] for key in FLUX if key != "budgets"}),
        ("videomae_ti8", {**SIZES, "patch": 14, "grid": (2, 2), "num_frames": 2}),
    ],
)
def test_without_classes_a_model_gives_the_features_that_its_head_reads(name, fields):
    whole = fluxjax.create_model(name, num_classes=3, **fields)
    tower = fluxjax.create_model(name, num_classes=0, **fields)
    variables = jax.jit(whole.init)(jax.random.key(0), VIDEO)
    own = jax.eval_shape(tower.init, jax.random.key(0), VIDEO)["params"]
    assert not any(path.startswith("head") for path in own)
    _, features = jax.jit(lambda v: whole.apply(v, VIDEO, return_features=True))(variables)
    found = jax.jit(lambda v: tower.apply(v, VIDEO))(variables)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, features, atol=1e-6)
    with pytest.raises(ValueError, match="without head returns only features"):
        jax.eval_shape(lambda v: tower.apply(v, VIDEO, return_features=True), variables)


def test_a_clip_tower_without_its_projection():
    fields = {**SIZES, "patch": 14, "grid": (2, 2), "embedding": 5}
    tower = fluxjax.create_model("clip_ti8", num_classes=0, **fields)
    projected = fluxjax.create_model("clip_ti8", num_classes=None, **fields)
    shape = lambda m: jax.eval_shape(m.init_with_output, jax.random.key(0), VIDEO)[0].shape  # noqa: E731
    assert shape(tower) == (2, 16) and shape(projected) == (2, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": 48}, r"budgets=48 must be a tuple, e.g. \(48,\)"),
        ({"budgets": (48, 0)}, r"budgets=\(48, 0\) must be positive numbers"),
        ({"grid": 8}, r"grid=8 must be a tuple, e.g. \(8, 8, 8\)"),
        ({"grid": (8, 8)}, r"grid=\(8, 8\) must be 3 numbers"),
        ({"width": "384"}, "width='384' must be a int"),
        ({"depth": 1.5}, "depth=1.5 must be a int"),
        ({"num_classes": -1}, "num_classes=-1 must be a number of classes"),
        ({"budget": (48,)}, "did you mean 'budgets'"),
    ],
)
def test_fields_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        fluxjax.create_model("fluxvit_s14", **options)
    assert fluxjax.create_model("fluxvit_s14", budgets=[8, 4]).budgets == (8, 4)


@pytest.fixture(scope="module")
def flux():
    model = fluxjax.create_model("fluxvit_ti14", num_classes=3, **FLUX)
    return model, jax.jit(model.init)(jax.random.key(0), VIDEO)


def test_what_a_call_refuses(flux):
    model, variables = flux
    eight = np.zeros((1, 8, 28, 28, 3), np.uint8)
    for video, options, message in (
        (eight, {"budget": 3}, "budget 3 .* give at least 4 tokens"),
        (eight, {"budget": 0}, "give at least 4 tokens"),
        (VIDEO, {"merge": (1000,)}, r"block 0 cannot merge 1000 of 8 tokens; at most 4 can"),
        (VIDEO, {"merge": (3,), "budget": 2}, "cannot merge 3 of 2 tokens"),
        (VIDEO.astype(np.float32), {}, "float32 pixels of up to 255 are not normalised"),
    ):
        with pytest.raises(ValueError, match=message):
            model.apply(variables, video, **options)
    packed = fluxjax.pack(list(eight), max_tokens=32)
    with pytest.raises(ValueError, match="4 temporal groups of these clips; give at least 4"):
        model.apply(variables, packed, budget=3)
    with pytest.raises(ValueError, match="clips of up to 8 frames may have; give at least 4"):
        jax.eval_shape(lambda v, t: model.apply(v, t, budget=3), variables, packed)
    noise = np.random.default_rng(0).standard_normal(VIDEO.shape, np.float32)
    assert np.isfinite(model.apply(variables, noise)).all()
