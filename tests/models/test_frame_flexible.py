"""Frame flexible networks: sizes, branches, batch statistics over devices, folding, loading."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.models import create_model
from fluxjax.models.frame_flexible.filling import export_branch
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.weight_files.errors import WeightsError

SIDE = 32


def fresh(name, classes=3):
    """A tiny model with variables that no norm or adapter leaves trivial."""
    model = create_model(name, classes)
    shapes = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 1, SIDE, SIDE, 3))), jax.random.key(0)
    )
    generator = np.random.default_rng(0)

    def draw(path, x):
        values = generator.standard_normal(x.shape, np.float32)
        kind = path[-1].key
        return 1 + 0.2 * np.tanh(values) if kind in ("var", "scale") else 0.2 * values

    return model, jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tsm_r50", 23_864_558), ("tsm_r50_ffn", 24_010_158),
        ("tea_r50", 24_456_280), ("tea_r50_ffn", 24_601_336),
        ("slowfast_r50", 34_045_558), ("slowfast_r50_ffn", 34_212_606),
        ("uniformer_s", 21_284_462), ("uniformer_s_ffn", 21_343_406),
    ],
)  # fmt: skip
def test_parameters_of_the_published_networks(name, size):
    model = create_model(name, 174)
    clip = jnp.zeros((1, 1, SIDE, SIDE, 3))
    shapes = jax.eval_shape(lambda key: model.init(key, clip), jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == size


@pytest.mark.parametrize("name", ["tsm_ti", "tea_ti", "slowfast_ti", "uniformer_ti"])
def test_a_branch_alone_computes_the_same(name):
    model, variables = fresh(f"{name}_ffn")
    frames = model.frames[0]
    clip = np.random.default_rng(1).standard_normal((1, frames, SIDE, SIDE, 3), np.float32)
    expected = model.apply(variables, clip)
    plain, alone = export_branch(model, variables, frames)
    assert plain == create_model(name, 3)
    assert not any("adapter" in str(p) for p, _ in jax.tree_util.tree_leaves_with_path(alone))
    np.testing.assert_allclose(plain.apply(alone, clip), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tsm_ti", "tea_ti", "slowfast_ti", "uniformer_ti"])
def test_a_plain_network_fills_all_branches(name):
    model, variables = fresh(name)
    state = {f"module.{n}": x for n, x in fluxjax.to_torch(model, variables).items()}
    checkpoint = {"state_dict": state, "epoch": 3, "best_prec1": np.float64(50.0)}
    options = {"head_dim": 16} if name == "uniformer_ti" else {}
    flexible, filled = fluxjax.load_torch("ffn", checkpoint, frames=(2, 4, 8), **options)
    clip = np.random.default_rng(1).standard_normal((1, 2, SIDE, SIDE, 3), np.float32)
    expected = model.apply(variables, clip)
    for branch in (2, 4, 8):
        logits = flexible.apply(filled, clip, branch=branch)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_other_weights_are_refused_with_one_error():
    with pytest.raises(WeightsError, match="no weights of a TSM, TEA, SlowFast or UniFormer"):
        fluxjax.load_torch("ffn", {"cls_token": np.zeros((1, 1, 8), np.float32)})


def test_statistics_are_the_whole_batchs_or_a_groups():
    x = np.random.default_rng(0).standard_normal((8, 3, 3, 2), np.float32)
    whole = BatchNorm(("frames_any",))
    variables = whole.init(jax.random.key(0), x, 0, False)
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    cut = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    y, moved = jax.jit(lambda v, x: whole.apply(v, x, 0, True, mutable=["batch_stats"]))(
        variables, cut
    )
    np.testing.assert_allclose(y, (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), atol=1e-4)
    found = moved["batch_stats"]["frames_any"]
    np.testing.assert_allclose(found["mean"], 0.1 * x.mean((0, 1, 2)), atol=1e-6)
    unbiased = 0.9 + 0.1 * x.reshape(-1, 2).var(0, ddof=1)
    np.testing.assert_allclose(found["var"], unbiased, rtol=1e-5)
    apart = BatchNorm(("frames_any",), groups=4)
    y, moved = apart.apply(variables, x, 0, True, mutable=["batch_stats"])
    for i in range(0, 8, 2):
        alone, first = whole.apply(variables, x[i : i + 2], 0, True, mutable=["batch_stats"])
        np.testing.assert_allclose(y[i : i + 2], alone, atol=1e-5)
        if i == 0:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), first, moved)


def test_a_branch_that_is_not_there_is_refused():
    model = create_model("tsm_ti_ffn", 3)
    with pytest.raises(ValueError, match="branch=5 is none of"):
        jax.eval_shape(
            lambda key: model.init(key, jnp.zeros((1, 4, SIDE, SIDE, 3)), branch=5),
            jax.random.key(0),
        )
