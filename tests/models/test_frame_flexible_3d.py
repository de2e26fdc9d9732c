"""SlowFast and UniFormer: sizes, costs, branches, any frame number, folding of adapters."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.models.attention_choice import plain_attention
from fluxjax.models.frame_flexible.conversion import export_branch
from fluxjax.models.frame_flexible.convolutions import convolve
from fluxjax.models.registry import create_model
from tests.models.products import products

TINY = {
    "slowfast": {"width": 8, "beta_inv": 4, "layers": (1, 1, 1, 1), "frames": (4, 8, 16)},
    "uniformer": {},
}


def abstract(name, classes=174, frames=16, side=64):
    model = create_model(name, classes)
    video = jax.ShapeDtypeStruct((1, frames, side, side, 3), jnp.float32)
    return model, jax.eval_shape(model.init, jax.random.key(0), video), video


@pytest.mark.parametrize(
    "name, published",
    [
        ("slowfast_r50", 34_045_558),
        ("slowfast_r50_ffn", 34_212_606),
        ("uniformer_s", 21_284_462),
        ("uniformer_s_ffn", 21_343_406),
    ],
)
def test_as_many_parameters_as_the_release(name, published):
    params = abstract(name)[1]["params"]
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == published


@pytest.mark.parametrize(
    "name, frames, published",
    [
        ("slowfast_r50", 32, 50.31),
        ("slowfast_r50_ffn", 16, 25.19),
        ("slowfast_r50_ffn", 64, 100.76),
        ("uniformer_s", 16, 41.66),
        ("uniformer_s_ffn", 4, 7.97),
        ("uniformer_s_ffn", 8, 17.57),
        ("uniformer_b", 16, 97.25),  # Sense-X/UniFormer: 389 G for four clips
    ],
)
def test_the_compute_that_is_published(name, frames, published):
    model, variables, video = abstract(name, frames=frames, side=224)
    with plain_attention():
        program = jax.make_jaxpr(model.apply)(variables, video)
    assert products(program.jaxpr) / 1e9 == pytest.approx(published, rel=0.01)


@functools.cache
def tiny(kind):
    """A tiny network whose norms and adapters differ from branch to branch."""
    model = create_model(f"{kind}_ti_ffn", 5, **TINY[kind])
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 32, 32, 3)))
    rng = np.random.default_rng(0)
    change = lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32)  # noqa: E731
    return model, jax.tree.map(change, variables), jax.jit(model.apply, static_argnums=(2,))


def clips(frames, dtype=np.float32):
    values = np.random.default_rng(frames).integers(0, 256, (2, frames, 32, 32, 3))
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255 - 0.45) / 0.225


@pytest.mark.parametrize("kind", TINY)
def test_any_frame_number_takes_the_nearest_branch(kind):
    model, variables, apply = tiny(kind)
    for frames, nearest in ((1, 4), (13, 16)):
        out = apply(variables, clips(frames), None)
        assert out.shape == (2, 5) and out.dtype == jnp.float32
        same = apply(variables, clips(frames), nearest)
        np.testing.assert_allclose(out, same, rtol=1e-5, atol=1e-5)
    assert not np.allclose(out, apply(variables, clips(frames), 8), rtol=1e-2)


@pytest.mark.parametrize("kind", TINY)
def test_bytes_are_normalised_inside(kind):
    _, variables, apply = tiny(kind)
    out = apply(variables, clips(6, np.uint8), None)
    np.testing.assert_allclose(out, apply(variables, clips(6), None), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", TINY)
def test_an_exported_branch_is_a_plain_network_with_the_same_logits(kind):
    model, variables, apply = tiny(kind)
    plain, folded = export_branch(model, variables, 6)
    assert plain.frames == (8,) and "adaconv" not in str(jax.tree.structure(folded))
    expected = apply(variables, clips(6), None)
    scale = np.abs(expected).max()
    out = jax.jit(plain.apply)(folded, clips(6))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", TINY)
def test_training_moves_the_statistics_of_its_branch_alone(kind):
    model, variables, _ = tiny(kind)

    @jax.jit
    def step(variables, video, key):
        return model.apply(
            variables, video, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    _, moved = step(variables, clips(4), jax.random.key(1))
    moved, kept = (
        {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (moved["batch_stats"], variables["batch_stats"])
    )
    assert set(moved) == set(kept)
    for path in kept:
        own = path.split("']['")[-2].endswith("_0")
        assert own != np.array_equal(moved[path], kept[path]), path


def test_colours_of_weights_that_were_trained_on_bgr():
    model, variables, apply = tiny("uniformer")
    video = clips(6)
    expected = apply(variables, video[..., ::-1], None)
    out = jax.jit(model.clone(channel_order="BGR").apply)(variables, video)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(out, apply(variables, video, None), rtol=1e-2)
    with pytest.raises(ValueError, match="channel_order='GBR' is unknown"):
        model.clone(channel_order="GBR")
    with pytest.raises(ValueError, match="head_dim=64 gives 0 heads"):
        model.clone(head_dim=64)


@pytest.mark.parametrize(
    "size, stride, padding, groups",
    [
        ((1, 1, 1), (1, 2, 2), (0, 0, 0), 1),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1), 1),
        ((7, 1, 1), (4, 1, 1), (3, 0, 0), 1),
        ((3, 1, 1), (1, 1, 1), (1, 0, 0), 4),
    ],
)
def test_shortcuts_of_convolutions_are_convolutions_of_three_axes(size, stride, padding, groups):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 6, 7, 4)).astype(np.float32)
    kernel = rng.standard_normal((*size, 4 // groups, 8)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, stride, [(p, p) for p in padding], feature_group_count=groups,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )  # fmt: skip
    out = convolve(x, kernel, stride, padding, groups)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 3, 3), (5, 5, 5), (1, 3, 3)])
def test_depthwise_convolutions_and_their_gradients(size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 6, 7, 4)).astype(np.float32)
    kernel = rng.standard_normal((*size, 1, 4)).astype(np.float32)
    padding = tuple(side // 2 for side in size)

    def of_xla(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1, 1), [(p, p) for p in padding], feature_group_count=4,
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        )  # fmt: skip

    def ours(x, kernel):
        return convolve(x, kernel, (1, 1, 1), padding, 4)

    def gradients(function):
        loss = lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)

    np.testing.assert_allclose(ours(x, kernel), of_xla(x, kernel), rtol=1e-5, atol=1e-5)
    for found, expected in zip(
        jax.tree.leaves(gradients(ours)), jax.tree.leaves(gradients(of_xla)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if size[0] == 1:  # frames
        flat = convolve(x[:, 0], kernel[0], (1, 1), padding[1:], 4)
        np.testing.assert_allclose(flat, of_xla(x, kernel)[:, 0], rtol=1e-5, atol=1e-5)
    half = ours(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), of_xla(x, kernel), atol=0.3)
