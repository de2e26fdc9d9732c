"""Loading InternVideo2 weights: sizes, stages, heads, round trips."""

import jax
import numpy as np
import pytest

from fluxjax.convert import internvideo2
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models import create_model
from fluxjax.weight_files.readers import WeightsError
from tests.golden import fixture

CASES = pytest.mark.parametrize("case", ["v01", "v02", "v04", "v08"])
PLAIN = fixture("internvideo2", "v01")


def load(case, state=None, **changes):
    state = case.params if state is None else state
    return load_torch("internvideo2", state, **(case.loading | changes))


@CASES
def test_round_trip_and_variables_of_the_model(case):
    case = fixture("internvideo2", case)
    model, variables = load(case)
    state = to_torch(model, variables)
    assert set(state) == set(case.params)
    for name, value in case.params.items():
        np.testing.assert_array_equal(state[name], value, strict=True, err_msg=name)
    expected = jax.eval_shape(model.init, jax.random.key(0), case.video("video"))
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shapes(variables) == shapes(expected)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("internvideo2_s14", 178, 23_352_976),
        ("internvideo2_b14", 178, 89_748_112),
        ("internvideo2_l14", 334, 309_238_416),
        ("internvideo2_1b14", 542, 1_021_017_744),
    ],
)
def test_official_tensor_and_parameter_counts(name, tensors, parameters):
    rows = internvideo2.rows_of(create_model(name))
    assert len(rows) == tensors
    assert sum(int(np.prod(row.shape)) for row in rows) == parameters


def test_released_sizes_need_no_keywords():
    model = create_model("internvideo2_s14")
    rows = internvideo2.rows_of(model)
    state = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}
    assert load_torch("internvideo2", state)[0] == model


@pytest.mark.slow
def test_initial_values():
    """Separate tables add up as in the reference; the probe starts as the identity."""
    model = create_model(
        "internvideo2_s14",
        3,
        depth=1,
        width=32,
        num_heads=2,
        pooled=16,
        grid=(2, 3, 4),
        separate_positions=True,
        attentive_probe=True,
    )
    video = np.zeros((1, 2, 28, 28, 3), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), video)["params"]
    assert params["spatial_table"].shape == (3, 4, 32)
    assert params["temporal_table"].shape == (2, 32)
    # The column comes first, then the row, each sines before cosines.
    np.testing.assert_allclose(params["spatial_table"][2, 1, [0, 16]], np.sin([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(params["temporal_table"][1, [0, 16]], [np.sin(1), np.cos(1)], 1e-6)
    assert not np.any(params["probe_mlp"]["fc2"]["kernel"])
    assert np.std(params["head"]["kernel"]) < 1e-4


def test_distilled_checkpoints():
    """No head, and decoders that no video model has: a backbone, or a model with a new head."""
    state = {n: v for n, v in PLAIN.params.items() if not n.startswith(("head.", "fc_norm."))}
    extra = {
        "clip_pos_embed": np.zeros((1, 5, 48), np.float32),
        "clip_decoder.0.head.0.weight": np.zeros((3, 3), np.float32),
        "final_clip_decoder.norm.bias": np.zeros(3, np.float32),
        "mae_decoder.1.head.weight": np.zeros((3, 3), np.float32),
    }
    backbone, variables = load(PLAIN, state | extra)
    assert backbone.num_classes is None
    features = jax.jit(backbone.apply)(variables, PLAIN.video("video"))
    PLAIN.check("clip_projector", features)
    with pytest.raises(ValueError, match="leave out return_features"):
        backbone.apply(variables, PLAIN.video("video"), return_features=True)
    model, variables = load(PLAIN, state | extra, num_classes=4, head_key=jax.random.key(0))
    found = to_torch(model, variables)
    assert found["head.weight"].shape == (4, 32) and np.std(found["head.weight"]) < 1e-4
    assert found["fc_norm.weight"].min() == 1
    with pytest.raises(ValueError, match="has no classification heads"):
        load(PLAIN, state, num_classes=4)


def test_errors():
    state = dict(PLAIN.params)
    del state["head.bias"]
    state["clip_projector.norm1.weight"] = state.pop("clip_projector.norm1_q.weight")
    with pytest.raises(WeightsError) as error:
        load(PLAIN, state)
    assert "missing (2)" in str(error.value) and "'head.bias'" in str(error.value)
    assert "'clip_projector.norm1.weight'" in str(error.value)
    with pytest.raises(ValueError, match=r"num_frames=5.* position table has 128 rows"):
        load(PLAIN, num_frames=5, image_size=None)
    model, variables = load(PLAIN)
    with pytest.raises(ValueError, match=r"layers \(0, 2\) are not among 0 to 1"):
        model.apply(variables, PLAIN.video("video"), (0, 2), method="teach")


@pytest.mark.slow
def test_separate_tables_on_another_grid():
    case = fixture("internvideo2", "v02")
    model, variables = load(case, grid=(6, 5, 4))
    assert variables["params"]["spatial_table"].shape[:2] == (5, 4)
    assert variables["params"]["temporal_table"].shape[0] == 6
    # The reference cannot do this; resampling the added tables in the forward pass must agree.
    clip = np.random.default_rng(0).standard_normal((1, 6, 70, 56, 3), np.float32)
    at_run_time = jax.jit(load(case)[0].apply)(load(case)[1], clip)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, clip), at_run_time, rtol=1e-4, atol=1e-5
    )


def test_frames_and_heads_that_nothing_tells_are_said(caplog):
    """8 frames of 224 pixels are the released table; of another one the frames are a guess."""
    state = dict(PLAIN.params)
    options = {name: v for name, v in PLAIN.loading.items() if name not in ("gelu", "num_heads")}
    with pytest.raises(ValueError, match="num_heads of .* pass num_heads="):
        load_torch("internvideo2", state, **options)
    del options["num_frames"], options["image_size"]
    model, _ = load_torch("internvideo2", state, **options, num_heads=3)
    assert (model.grid, model.num_heads, model.gelu) == ((8, 4, 4), 3, "tanh")
    assert (
        "num_frames=8 is assumed (as in released models); if it is not so, pass num_frames="
        in caplog.text
    )
    assert caplog.text.count("gelu=tanh is assumed") == 1
    released = create_model("internvideo2_s14")
    caplog.clear()
    rows = internvideo2.rows_of(released)
    whole = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}
    assert load_torch("internvideo2", whole)[0] == released
    assert not caplog.records
