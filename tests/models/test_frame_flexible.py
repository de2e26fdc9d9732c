"""Frame flexible networks: sizes and cost, branches, statistics, a branch as a plain network."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import fluxjax
from fluxjax.models.frame_flexible.branches import Adapter
from fluxjax.models.frame_flexible.conversion import export_branch
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.tokens.tokens import normalize_pixels
from tests.models.products import products

SMALL = {"layers": (1, 1), "widths": (16, 32), "stem": 8, "frames": (2, 4)}
CLIPS = np.random.default_rng(0).standard_normal((2, 4, 24, 24, 3), np.float32)


def shapes(model, side=32):
    video = jax.ShapeDtypeStruct((1, max(model.frames), side, side, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), video)


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "name, plain, flexible", [("tsm", 23_864_558, 24_010_158), ("tea", 24_456_280, 24_601_336)]
)
def test_parameters_of_the_official_networks(name, plain, flexible):
    for suffix, expected in (("", plain), ("_ffn", flexible)):
        model = fluxjax.create_model(f"{name}_r50{suffix}", 174)
        assert count(shapes(model)["params"]) == expected


def test_tea_may_alter_weights_too():
    plain = fluxjax.create_model("tea_r50_ffn", 174)
    more = count(shapes(plain.clone(adapters=True))["params"]) - count(shapes(plain)["params"])
    assert more == 3 * 13_120  # as TSM's: the blocks' inputs are as wide


@pytest.mark.parametrize(
    "name, frames, published",
    [
        ("tsm_r50", 4, 16.35),
        ("tsm_r50", 16, 65.40),
        ("tsm_r50_ffn", 8, 32.75),
        ("tea_r50", 4, 17.27),
        ("tea_r50_ffn", 8, 34.54),
    ],
)
def test_the_compute_that_is_published(name, frames, published):
    model = fluxjax.create_model(name, 174)
    video = jax.ShapeDtypeStruct((1, frames, 224, 224, 3), jnp.float32)
    program = jax.make_jaxpr(model.apply)(shapes(model), video)
    assert products(program.jaxpr) / 1e9 == pytest.approx(published, rel=0.01)


@functools.cache
def drawn(name, **fields):
    """A small network with parameters and statistics that are nowhere the same."""
    model = fluxjax.create_model(name, 5, **(SMALL | fields))
    rng = np.random.default_rng(1)

    def values(path, x):
        noise = rng.standard_normal(x.shape, np.float32)
        return 1 + 0.2 * np.abs(noise) if path[-1].key in ("scale", "var") else 0.2 * noise

    return model, jax.tree.map_with_path(values, shapes(model))


def run(model, variables, clips, branch=None):
    return jax.jit(lambda v, x: model.apply(v, x, branch))(variables, clips)


@pytest.mark.parametrize("name, adapters", [("tsm_ti_ffn", True), ("tea_r50_ffn", True)])
def test_a_branch_as_a_plain_network(name, adapters):
    model, variables = drawn(name, adapters=adapters)
    for frames, near in ((3, 4), (2, 2)):
        plain, own = export_branch(model, variables, frames)
        assert plain.frames == (near,)
        assert jax.tree.structure(own) == jax.tree.structure(shapes(plain))
        clips = CLIPS[:, :frames]
        whole = run(model, variables, clips)
        np.testing.assert_allclose(run(plain, own, clips), whole, rtol=1e-5, atol=1e-5)
        other = run(model, variables, clips, {2: 4, 4: 2}[near])
        assert np.abs(other - whole).max() > 1e-2


def test_a_branch_of_a_plain_network_is_itself_and_others_have_none():
    model, variables = drawn("tsm_ti_ffn", frames=(4,))
    same, own = fluxjax.export_branch(model, variables, 9)
    assert same == model.clone(parent=None)
    jax.tree.map(np.testing.assert_array_equal, own, variables)
    with pytest.raises(ValueError, match="a FluxViT has no branches"):
        fluxjax.export_branch(fluxjax.create_model("fluxvit_ti14"), {}, 8)


def test_pixels_and_their_normalised_floats_give_the_same():
    model, variables = drawn("tsm_ti_ffn")
    pixels = np.random.default_rng(2).integers(0, 256, CLIPS.shape, np.uint8)
    floats = np.asarray(normalize_pixels(pixels, model.pixels))
    np.testing.assert_allclose(
        run(model, variables, pixels), run(model, variables, floats), rtol=1e-5, atol=1e-5
    )


def test_a_wrong_clip_branch_shift_or_frames_is_refused():
    model, variables = drawn("tsm_ti_ffn")
    with pytest.raises(ValueError, match=r"branch=3 is none of the network.s frames=\(2, 4\)"):
        model.apply(variables, CLIPS, branch=3)
    with pytest.raises(ValueError, match=r"not \[2, 24, 24, 3\]"):
        model.apply(variables, CLIPS[:, 0])
    with pytest.raises(ValueError, match="shift='both' is unknown"):
        fluxjax.create_model("tsm_ti", 5, shift="both")
    with pytest.raises(ValueError, match=r"frames=\(8, 4\) must be ascending"):
        fluxjax.create_model("tsm_ti_ffn", 5, frames=(8, 4))


def test_batch_norm_has_torch_s_statistics():
    """torch.nn.BatchNorm1d(1) on [1, 2, 6]: mean 3, variance 14/3 of the batch and 7 kept."""
    x, layer = jnp.array([[1.0], [2.0], [6.0]]), BatchNorm()
    variables = layer.init(jax.random.key(0), x, True)
    assert variables["batch_stats"]["mean"] == 0
    out, kept = layer.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(out[:, 0], np.array([-2, -1, 3]) / math.sqrt(14 / 3), rtol=1e-5)
    np.testing.assert_allclose(kept["batch_stats"]["mean"], 0.3, rtol=1e-6)
    np.testing.assert_allclose(kept["batch_stats"]["var"], 0.9 + 0.7, rtol=1e-6)


def test_statistics_of_a_batch_on_several_devices_are_of_the_whole_batch():
    x = 3 + np.random.default_rng(3).standard_normal((16, 5, 2), np.float32)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x)
    apply = jax.jit(lambda v, x: layer.apply(v, x, True, mutable=["batch_stats"]))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    assert len(cut.sharding.device_set) == 8
    for found, expected in zip(
        jax.tree.leaves(apply(variables, cut)), jax.tree.leaves(apply(variables, x)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_branch_that_does_not_run_keeps_its_statistics():
    model, variables = drawn("tea_r50_ffn")
    _, kept = jax.jit(
        lambda v, x: model.apply(
            v, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)}
        )
    )(variables, CLIPS)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), kept, {
        "batch_stats": variables["batch_stats"]
    })  # fmt: skip
    norms = flatten_dict(moved["batch_stats"])
    assert {path for path in norms if path[-2].endswith("_0")}
    for path, moves in norms.items():
        assert moves == path[-2].endswith("_1"), path  # four frames: branch 1


def test_adapters_begin_as_the_released_code_draws_them():
    adapter = Adapter().init(jax.random.key(0), jnp.zeros((1, 2048)))["params"]["kernel"]
    assert np.std(adapter) == pytest.approx((2 / 2048) ** 0.5, rel=0.05)


def test_local_statistics_are_of_each_part_of_the_batch():
    x = 3 + np.random.default_rng(4).standard_normal((4, 5, 2), np.float32)
    whole, parts = BatchNorm(), BatchNorm(groups=2)
    variables = whole.init(jax.random.key(0), x)
    out, kept = parts.apply(variables, x, True, mutable=["batch_stats"])
    first, moved = whole.apply(variables, x[:2], True, mutable=["batch_stats"])
    second, _ = whole.apply(variables, x[2:], True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, np.concatenate([first, second]), rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), kept, moved)


def test_groups_of_statistics_divide_the_clips_of_a_batch():
    model, variables = drawn("tsm_ti_ffn")
    options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(0)}}
    with pytest.raises(ValueError, match="statistics_groups=4 do not divide a batch of 2 clips"):
        model.clone(statistics_groups=4).apply(variables, CLIPS, **options)
    with pytest.raises(ValueError, match="statistics_groups=0 must be at least 1"):
        model.clone(statistics_groups=0)
    groups = jax.jit(lambda v, x: model.clone(statistics_groups=2).apply(v, x, **options))
    alone = jax.jit(lambda v, x: model.apply(v, x, **options))
    _, kept = groups(variables, CLIPS)
    _, expected = alone(variables, CLIPS[:1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                 kept, expected)  # fmt: skip


@pytest.mark.parametrize(
    "name", ["tsm_ti_ffn", "tea_ti_ffn", "slowfast_ti_ffn", "uniformer_ti_ffn"]
)
def test_layers_of_parameters_ascend_from_stem_to_head(name):
    model = fluxjax.create_model(name, 5, layers=(1, 2, 1, 1))
    params = shapes(model, 64)["params"]
    found = {part: model.layer_id((part, "kernel")) for part in params}
    assert set(found.values()) == set(range(model.depth + 2))
    assert {part for part, layer in found.items() if layer == model.depth + 1} == {
        part for part in params if part == "head" or part.startswith("norm_")
    }
    assert not any(model.frozen((part, "kernel")) for part in params)
    known = {
        "layer2_block1": 3, "conv1": 0, "bn1_2": 0, "s3_fast_res1": 3, "s3_slow_res0": 2,
        "s3_fuse": 3, "s1_fuse": 0, "blocks2_1": 3, "patch_embed1": 0, "patch_embed3": 3,
    }  # fmt: skip
    assert len(known.items() & found.items()) >= 3
    assert all(found.get(part, layer) == layer for part, layer in known.items())


def test_a_network_without_classifier_gives_its_features():
    model, variables = drawn("tsm_ti_ffn")
    params = {name: value for name, value in variables["params"].items() if name != "head"}
    headless = fluxjax.create_model("tsm_ti_ffn", 0, **SMALL)
    _, features = model.apply(variables, CLIPS, return_features=True)
    found = headless.apply({**variables, "params": params}, CLIPS)
    np.testing.assert_allclose(found, features, rtol=1e-6)
