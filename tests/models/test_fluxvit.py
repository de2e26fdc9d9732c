import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.tokens.tokens import normalize_pixels

SIZE = {"width": 32, "depth": 2, "num_heads": 2, "grid": (4, 3, 3), "pooled": 16, "pool_heads": 2}
BUDGETS = (24, 12, 8)
# T even, odd, 1, 2, 4; square and not; more and fewer tokens than the largest budget.
GRIDS = [(8, 2, 2), (4, 3, 2), (3, 2, 4), (1, 4, 4), (2, 3, 3), (6, 1, 5), (2, 1, 3)]


@functools.cache
def model_and_variables():
    model = fluxjax.create_model("fluxvit_ti14", num_classes=5, budgets=BUDGETS, **SIZE)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
    # Initial layer scales are tiny and positions smooth: random values make every path matter.
    leaves, tree = jax.tree.flatten(jax.device_get(variables))
    draw = np.random.default_rng(1)
    noisy = [x + np.float32(0.2) * draw.standard_normal(x.shape, np.float32) for x in leaves]
    return model, jax.tree.unflatten(tree, noisy)


@functools.cache
def jitted(budget, head=None, features=False):
    model, _ = model_and_variables()
    return jax.jit(lambda v, x: model.apply(v, x, budget, head, return_features=features))


def clip(grid, seed=0):
    t, h, w = grid
    return np.random.default_rng([seed, *grid]).integers(0, 256, (t, h * 14, w * 14, 3), np.uint8)


def dense(clip_u8):
    values = normalize_pixels(jnp.asarray(clip_u8).reshape(-1, 3))
    return values.reshape(1, *clip_u8.shape)


@pytest.mark.parametrize(
    "budget", [None, 12, *(pytest.param(b, marks=pytest.mark.slow) for b in (24, 8))]
)
def test_packed_batch_of_mixed_grids_equals_each_clip_dense(budget):
    _, variables = model_and_variables()
    clips = [clip(grid) for grid in GRIDS]
    packed = jitted(budget)(variables, fluxjax.pack(clips, max_tokens=40))
    for row, one in zip(packed, clips, strict=True):
        expected = jitted(budget)(variables, dense(one))[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(np.asarray(packed), axis=0).min() > 1e-2, "logits hardly depend on the clip"


@pytest.mark.parametrize("budget", [None, 12])
def test_padding_and_neighbours_change_nothing(budget):
    _, variables = model_and_variables()
    one = clip((6, 2, 2))
    alone = jitted(budget)(variables, fluxjax.pack([one], 24, max_grid=(8, 8, 8)))
    padded = fluxjax.pack([one, clip((3, 2, 4))], 48, max_grid=(8, 8, 8))
    rubbish = jnp.where(padded.valid[..., None], padded.values, 255)
    with_rubbish = padded.replace(values=rubbish)
    np.testing.assert_allclose(jitted(budget)(variables, padded)[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(jitted(budget)(variables, with_rubbish)[0], alone[0], atol=1e-5)


def test_budgets_and_heads():
    model, variables = model_and_variables()
    video = dense(clip((8, 2, 2)))
    logits = {head: jitted(12, head)(variables, video) for head in range(3)}
    np.testing.assert_array_equal(jitted(12)(variables, video), logits[1])
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    assert [model.head_for(b) for b in (None, 100, 24, 19, 13, 9, 1)] == [0, 0, 0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match="head 3 does not exist"):
        model.apply(variables, video, head=3)


def test_forward_budgets_equals_single_calls():
    model, variables = model_and_variables()
    packed = fluxjax.pack([clip((8, 2, 2)), clip((4, 2, 3))], max_tokens=40)
    outputs = jax.jit(lambda v, x: model.apply(v, x, method="forward_budgets"))(variables, packed)
    for head, (budget, output) in enumerate(zip(BUDGETS, outputs, strict=True)):
        logits, features = jitted(budget, head, True)(variables, packed)
        np.testing.assert_allclose(output.logits, logits, atol=1e-5)
        np.testing.assert_allclose(output.features, features, atol=1e-5)
    assert outputs[0].aligned is None
    np.testing.assert_allclose(jnp.linalg.norm(outputs[1].aligned, axis=-1), 1, rtol=1e-5)


def test_uint8_video_equals_normalised_video():
    _, variables = model_and_variables()
    one = clip((4, 2, 2))
    from_pixels = jitted(None)(variables, jnp.asarray(one)[None])
    np.testing.assert_allclose(from_pixels, jitted(None)(variables, dense(one)), atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_is_close():
    model, variables = model_and_variables()
    half = model.clone(dtype=jnp.bfloat16)
    init = jax.eval_shape(half.init, jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
    assert {x.dtype for x in jax.tree.leaves(init)} == {jnp.dtype("float32")}
    video = dense(clip((8, 2, 2)))
    logits = jax.jit(lambda v, x: half.apply(v, x))(variables, video)
    assert logits.dtype == jnp.float32
    exact = jitted(None)(variables, video)
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_drop_path_needs_train_and_a_key():
    model, variables = model_and_variables()
    dropping = model.clone(drop_path=0.9)
    video = dense(clip((4, 2, 2)))

    @functools.partial(jax.jit, static_argnums=2)
    def apply(v, key, train):
        return dropping.apply(v, video, train=train, rngs={"dropout": key})

    keys = [jax.random.key(i) for i in range(3)]
    trained = [apply(variables, key, True) for key in keys]
    np.testing.assert_array_equal(trained[0], apply(variables, keys[0], True))
    assert any(np.abs(trained[0] - other).max() > 1e-3 for other in trained[1:])
    np.testing.assert_allclose(
        apply(variables, keys[0], False), jitted(None)(variables, video), atol=1e-6
    )


def test_layer_ids_cover_every_parameter():
    model, variables = model_and_variables()
    ids = {name: model.layer_id((name,)) for name in variables["params"]}
    first = {name for name, number in ids.items() if number == 0}
    assert first == {"cls_token", "cls_position", "position_table", "patch_embed"}
    assert (ids["blocks_0"], ids["blocks_1"], ids["gpe"], ids["heads_0"]) == (1, 2, 3, 3)


@pytest.mark.parametrize(("name", "millions"), [("fluxvit_s14", 28.846), ("fluxvit_b14", 104.560)])
def test_parameter_counts_of_the_published_sizes(name, millions):
    model = fluxjax.create_model(name, num_classes=400)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
    assert sum(x.size for x in jax.tree.leaves(variables)) / 1e6 == pytest.approx(
        millions, abs=1e-3
    )


def test_unknown_names_and_fields_get_the_nearest():
    with pytest.raises(ValueError, match="fluxvit_s14"):
        fluxjax.create_model("fluxvit_s")
    with pytest.raises(ValueError, match="did you mean 'depth'"):
        fluxjax.create_model("fluxvit_s14", deepth=2)
    assert {"fluxvit_ti14", "fluxvit_s14", "fluxvit_b14"} <= set(fluxjax.list_models())


def test_wrong_inputs_are_named():
    model, variables = model_and_variables()
    with pytest.raises(ValueError, match="multiples of the patch size 14, got 30 x 28"):
        model.apply(variables, jnp.zeros((1, 2, 30, 28, 3)))
    with pytest.raises(ValueError, match=r"\[B, T, H, W, 3\]"):
        model.apply(variables, jnp.zeros((2, 28, 28, 3)))
    with pytest.raises(ValueError, match="another patch size"):
        model.apply(variables, fluxjax.pack([clip((2, 8, 8))], 1024, patch=7))
    with pytest.raises(ValueError, match="unknown GELU"):
        model.clone(gelu="relu").apply(variables, dense(clip((2, 2, 2))))
    with pytest.raises(ValueError, match="unknown attention back end"):
        model.clone(attention="flash").apply(variables, dense(clip((2, 2, 2))))
