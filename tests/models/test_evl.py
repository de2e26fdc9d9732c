"""EVL's own additions: selected tokens, other grids, features to keep, packed clips refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.serving.settings import Setting, forward, make_setting, methods_of, token_groups
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.selection import top_places
from fluxjax.tokens.tokens import Tokens

SIZES = {
    "width": 16, "depth": 2, "num_heads": 2, "patch": 4, "grid": (3, 4), "num_frames": 4,
    "decoder_layers": 2, "qkv_width": 16, "decoder_heads": 2,
}  # fmt: skip
CLIP = np.random.default_rng(0).integers(0, 256, (2, 4, 12, 16, 3), np.uint8)


@functools.cache
def model_and_variables(**fields):
    model = fluxjax.create_model("evl_ti8", 5, **(SIZES | fields))
    shapes = jax.eval_shape(model.init, jax.random.key(0), CLIP)
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


@functools.cache
def compiled(model, budget):
    return jax.jit(lambda v, x: model.apply(v, x, budget))


def logits(model, variables, video, budget=None):
    return compiled(model, budget)(variables, video)


def test_top_places_are_those_that_change_most():
    scores = jnp.array([[1.0, 5, 2, 2, 0, 0, 3, 2], [0.0, 0, 0, 0, 0, 0, 0, 0]])
    places = top_places(scores, (2, 2, 2), 4)
    assert places.tolist() == [[1, 2], [0, 1]]
    assert top_places(scores, (2, 2, 2), 5).shape == (2, 2)  # the same number in every frame
    with pytest.raises(ValueError, match="smaller than the clip's 2 frames"):
        top_places(scores, (2, 2, 2), 1)


@pytest.mark.slow
@pytest.mark.parametrize("select", ["input", "features"])
def test_a_budget_keeps_the_moving_places(select):
    model, variables = model_and_variables()
    model = model.clone(select=select)
    still = np.repeat(CLIP[:, :1], 4, axis=1)
    still[:, :, 4:8, 4:12] = CLIP[:, :, 4:8, 4:12]  # places 5 and 6 move
    kept = logits(model, variables, still, 8)
    changed = still.copy()
    changed[:, :, 8:, :4] = 255 - changed[:, :, 8:, :4]  # place 8 changes, but stands still
    same = np.abs(logits(model, variables, changed, 8) - kept).max() < 1e-5
    # A tower that saw only the kept places cannot tell; one that saw all of them can.
    assert same == (select == "input")


@pytest.mark.slow
def test_other_grids_and_frame_numbers():
    model, variables = model_and_variables()
    for shape in ((1, 12, 16), (6, 12, 16), (4, 20, 8)):
        clip = np.random.default_rng(2).integers(0, 256, (1, *shape, 3), np.uint8)
        assert np.all(np.isfinite(logits(model, variables, clip)))


@pytest.mark.slow
def test_features_give_the_logits_of_pixels():
    model, variables = model_and_variables()
    features = jax.jit(lambda v: model.apply(v, CLIP, method="features"))(variables)
    assert {name: x.shape for name, x in features.items()} == {
        "out": (2, 2, 4, 13, 16), "q": (2, 2, 4, 13, 2, 8), "k": (2, 2, 4, 13, 2, 8)
    }  # fmt: skip
    decode = lambda v: model.apply(v, features, (3, 4), method="classify_features")  # noqa: E731
    found = jax.jit(decode)(variables)
    np.testing.assert_allclose(found, logits(model, variables, CLIP), atol=1e-5)
    with pytest.raises(ValueError, match="select='input' cannot choose from features"):
        model.apply(variables, features, (3, 4), 24, method="classify_features")


def test_packed_clips_are_refused():
    model, variables = model_and_variables()
    tokens = fluxjax.pack(list(CLIP), max_tokens=60, patch=4)
    with pytest.raises(ValueError, match="EVL works frame by frame"):
        jax.eval_shape(model.apply, variables, tokens)
    dense = Tokens.from_video(CLIP, 4)
    assert jax.eval_shape(model.apply, variables, dense).shape == (2, 5)


@pytest.mark.slow
def test_dropout_only_in_training():
    model, variables = model_and_variables()
    apply = jax.jit(lambda v, key: model.apply(v, CLIP, train=True, rngs={"dropout": key}))
    first, second = (apply(variables, jax.random.key(i)) for i in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, apply(variables, jax.random.key(0)))


def test_the_budget_report_knows_evls_one_method():
    model, _ = model_and_variables()
    assert methods_of(model) == ("places", "none")
    assert make_setting(model, Grid(4, 12), 16) == Setting(Grid(4, 12), 16, "places", 0)
    assert make_setting(model, Grid(4, 12)).method == "none"
    with pytest.raises(ValueError, match="unknown method 'merge'; choose one of"):
        make_setting(model, Grid(4, 12), 16, "merge")
    with pytest.raises(ValueError, match="EVL has head 0"):
        jax.eval_shape(lambda v: model.apply(v, CLIP, head=1), model_and_variables()[1])


@pytest.mark.slow
@pytest.mark.parametrize("select", ["input", "features"])
def test_settings_run_and_show_what_is_kept(select):
    model, variables = model_and_variables()
    model, clip = model.clone(select=select), CLIP[:, :, :, :12]
    setting = make_setting(model, Grid(4, 12), 16)

    @jax.jit
    def run(variables):
        outputs = forward(model, variables, clip, setting, return_features=True)
        plain = model.apply(variables, clip, 16)
        return outputs, plain, token_groups(model, variables, clip, setting)

    (found, features), plain, groups = run(variables)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    assert features.shape == (2, 16)
    kept = np.asarray(groups) >= 0
    assert kept.sum(axis=(2, 3)).tolist() == [[4] * 4] * 2, "not four tokens of every frame"
    assert np.all(kept == kept[:, :1]), "other places in other frames"
