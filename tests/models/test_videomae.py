import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.checkpoints.inference import load, save
from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.models.videomae_pretraining import token_indices
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.tokens import pack

SIZES = {
    "width": 16, "depth": 2, "num_heads": 2, "patch": 4, "grid": (3, 2), "num_frames": 4,
}  # fmt: skip
DECODER = {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 1}
VIDEO = np.random.default_rng(0).standard_normal((2, 4, 12, 8, 3)).astype(np.float32)
MASK = np.array([[1, 1, 0, 1, 0, 1] * 2, [0, 0, 1, 1, 1, 1] * 2], bool)


def pretraining():
    model = create_model("videomae_ti8_pretrain", 0, **SIZES, **DECODER)
    return model, jax.jit(model.init)(jax.random.key(0), VIDEO, MASK)


def classifier(**fields):
    model = create_model("videomae_ti8", 5, **SIZES, **fields)
    return model, jax.jit(model.init)(jax.random.key(1), VIDEO)


def test_hidden_pixels_change_nothing():
    model, variables = pretraining()
    cubes = model.cubes(VIDEO)
    other = jnp.where(MASK[..., None], 7.0, cubes.values)
    run = jax.jit(lambda values: model.apply(variables, cubes.replace(values=values), MASK))
    np.testing.assert_array_equal(run(cubes.values), run(other))
    assert np.any(np.asarray(run(cubes.values)) != np.asarray(run(other + 1.0)))


def test_without_a_mask_a_model_gives_features():
    model, variables = pretraining()
    shapes = jax.eval_shape(model.init, jax.random.key(0), VIDEO)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
    features = jax.jit(model.apply)(variables, VIDEO)
    tokens = model.apply(
        variables, VIDEO, method=lambda m, x: m.encoder(m.encoder.embed(m.cubes(x)))
    )
    np.testing.assert_allclose(features, jnp.mean(tokens, axis=1), atol=1e-6)


def test_bytes_are_normalised_inside():
    model, variables = classifier()
    video = np.random.default_rng(1).integers(0, 256, VIDEO.shape, np.uint8)
    pixels = (video / 255 - model.pixels.mean) / np.array(model.pixels.std)
    run = jax.jit(model.apply)
    np.testing.assert_allclose(
        run(variables, video), run(variables, pixels.astype(np.float32)), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 12, 8), (3, 8, 12), (6, 4, 4)])
def test_any_clip_packed_as_dense(shape):
    """Odd frame numbers, images, grids that are not square or not the positions'."""
    model, variables = classifier()
    clip = np.random.default_rng(2).standard_normal((*shape, 3)).astype(np.float32)
    run = jax.jit(model.apply)
    packed = pack([clip, VIDEO[0]], 24, model.patch, max_grid=(6, 3, 3))
    logits = run(variables, packed)
    np.testing.assert_allclose(logits[0], run(variables, clip[None])[0], atol=1e-5)
    np.testing.assert_allclose(logits[1], run(variables, VIDEO)[0], atol=1e-5)


def test_a_budget_counts_patches_of_frames():
    model, variables = classifier()
    run = jax.jit(lambda v, x, k: model.apply(v, x, k), static_argnums=2)
    whole = run(variables, VIDEO, None)
    np.testing.assert_array_equal(run(variables, VIDEO, 24), whole)
    assert np.any(np.asarray(run(variables, VIDEO, 8)) != np.asarray(whole))
    kept = model.apply(variables, VIDEO, 8, method="kept_tokens")
    assert kept.valid.shape == (2, 8) and kept.valid.all()
    times = kept.position[0, :, 0].tolist()
    assert times == [0, 1] * 2 + [2, 3] * 2 or set(times) <= {0, 1, 2, 3}
    pairs = kept.position[:, ::2, 1:] == kept.position[:, 1::2, 1:]
    assert pairs.all(), "both frames of a tubelet are kept"


def test_poolings():
    for pooling in ("mean", "mean_of_normed", "first"):
        model, variables = classifier(pooling=pooling)
        norm = "final_norm" in variables["params"]["encoder"]
        assert norm == (pooling != "mean") == ("fc_norm" not in variables["params"])
        assert jax.jit(model.apply)(variables, VIDEO).shape == (2, 5)
    with pytest.raises(ValueError, match="pooling='last' is unknown"):
        create_model("videomae_ti8", 5, pooling="last")
    with pytest.raises(ValueError, match="tells no classes"):
        create_model("videomae_ti8_pretrain", 5)


def test_fine_tuning_starts_from_pre_training(tmp_path):
    source, stored = pretraining()
    save(tmp_path / "model", source, stored)
    again, read = load(tmp_path / "model")
    assert again == source
    jax.tree.map(np.testing.assert_array_equal, read, stored)
    model, variables = classifier()
    started = start_model(tmp_path / "model", model, variables)["params"]
    taken, fresh = stored["params"]["encoder"], variables["params"]
    for name, value in started["encoder"].items():
        jax.tree.map(np.testing.assert_array_equal, value, taken[name])
    for name in ("fc_norm", "head"):
        jax.tree.map(np.testing.assert_array_equal, started[name], fresh[name])
    assert set(started) == {"encoder", "fc_norm", "head"}
    with pytest.raises(ValueError, match="num_heads=2 not 4"):
        start_model(tmp_path / "model", model.clone(num_heads=4), variables)


def test_strong_positions():
    model, variables = classifier()
    method = lambda m, x: m.encoder.codes(m.cubes(x))  # noqa: E731
    codes = lambda model: model.apply(variables, VIDEO, method=method)  # noqa: E731
    np.testing.assert_allclose(codes(model)[0], flat_sincos(16, 12), atol=1e-6)
    strong = codes(model.clone(position_scale=3.0))
    np.testing.assert_allclose(strong, 3 * codes(model), rtol=1e-6)


def test_layers():
    model, variables = classifier()
    layers = {
        "encoder/patch_embed/kernel": 0, "encoder/blocks_0/attn/q_bias": 1,
        "encoder/blocks_1/mlp/fc2/kernel": 2, "fc_norm/LayerNorm_0/scale": 3, "head/bias": 3,
    }  # fmt: skip
    for path, layer in layers.items():
        assert model.layer_id(tuple(path.split("/"))) == layer


def test_rematerialised_blocks_have_the_same_gradients():
    model, variables = pretraining()

    def gradient(model):
        loss = lambda v: jnp.sum(model.apply(v, VIDEO, MASK) ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss))(variables)

    plain, again = gradient(model), gradient(model.clone(remat="block"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


def test_token_indices():
    chosen = jnp.array([[False, True, True, False], [True, False, False, False]])
    index, valid = token_indices(chosen, 2)
    assert index.tolist() == [[1, 2], [0, 3]] and valid.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("mask", "slots", "message"),
    [
        (MASK.astype(np.float32), None, r"tubelets, bool, not \[2, 12\] float32"),
        (MASK[:, :6], None, r"must be \[B, N\] of the \[2, 12\] tubelets, bool, not \[2, 6\]"),
        (MASK[:1], None, r"tubelets, bool, not \[1, 12\]"),
        (np.array([MASK[0], np.arange(12) < 3]), None, r"the same number of tokens, not \[3, 8\]"),
        (MASK, (3, 8), r"slots=\(3, 8\) have no room for up to 4 visible and 8 hidden tokens"),
        (MASK, (4, 7), r"slots=\(4, 7\) have no room for up to 4 visible and 8 hidden"),
    ],
)
def test_masks_that_cannot_work(mask, slots, message):
    model, variables = pretraining()
    with pytest.raises(ValueError, match=message):
        model.apply(variables, VIDEO, mask, slots=slots)


def test_a_traced_mask_that_does_not_fit_gives_nan():
    model, variables = pretraining()
    run = jax.jit(lambda mask: model.apply(variables, VIDEO, mask, slots=(4, 8)))
    other = MASK.copy()
    other[1] = np.arange(12) < 7
    result = np.asarray(run(other))
    np.testing.assert_array_equal(result[0], np.asarray(run(MASK))[0])
    assert np.isfinite(result[0]).all() and np.isnan(result[1]).all()


def test_a_budget_below_a_token():
    model, variables = classifier()
    with pytest.raises(ValueError, match="a budget of 1 keeps no token: each has 2 patches"):
        model.apply(variables, VIDEO, 1)


def test_a_fine_tuned_model_is_not_pre_trained(tmp_path):
    model, variables = classifier()
    save(tmp_path / "model", model, variables)
    again, fresh = pretraining()
    with pytest.raises(ValueError, match="a VideoMaePretraining starts from VideoMaePretraining"):
        start_model(tmp_path / "model", again, fresh)
    source, stored = pretraining()
    save(tmp_path / "source", source, stored)
    wider = again.clone(decoder_width=16)
    with pytest.raises(ValueError, match="has decoder_width=8 not 16"):
        start_model(tmp_path / "source", wider, fresh)
