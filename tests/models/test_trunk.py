"""Blocks compiled as one, and padding to whole tiles: what blocks called one by one give."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.models import trunk
from fluxjax.models.attention_choice import Place

SIZES = {
    "width": 32, "depth": 3, "num_heads": 2, "grid": (4, 3, 3), "pooled": 16, "pool_heads": 2,
    "layer_scale": 0.5,
}  # fmt: skip
VIDEO = np.random.default_rng(0).standard_normal((2, 3, 28, 42, 3)).astype(np.float32)
ONE_BY_ONE, SCANNED = False, True


@functools.cache
def variables_of(model):
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO)
    draw = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: np.asarray(x) + np.float32(0.2) * draw.standard_normal(x.shape, np.float32),
        variables,
    )


def fluxvit(**fields):
    return fluxjax.create_model("fluxvit_ti14", num_classes=5, budgets=(12, 6), **SIZES | fields)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_scanned_blocks_give_outputs_and_gradients_of_blocks_one_by_one(remat):
    model = fluxvit(remat=remat)
    variables = variables_of(model)

    def value(scan, params):
        outputs = model.clone(scan_blocks=scan).apply(
            {"params": params}, VIDEO, train=True, method="forward_budgets"
        )
        logits = [output.logits for output in outputs]
        return sum(jnp.sum(jnp.sin(x)) for x in logits), logits

    graded = jax.jit(jax.value_and_grad(value, 1, has_aux=True), static_argnums=0)
    assert_close(graded(SCANNED, variables["params"]), graded(ONE_BY_ONE, variables["params"]))
    products = [
        graded.lower(scan, variables["params"]).as_text().count("dot_general")
        for scan in (SCANNED, ONE_BY_ONE)
    ]
    assert products[0] < 0.6 * products[1], "one block in the program, not three"


@pytest.mark.parametrize("layers", [(2,), (0, 1)])
def test_scanned_blocks_teach_the_same_layers(layers):
    model = fluxjax.create_model("internvideo2_s14", num_classes=None, **SIZES)
    teach = lambda scan: model.clone(scan_blocks=scan).apply(  # noqa: E731
        variables_of(model), VIDEO, layers, method="teach"
    )
    assert teach(ONE_BY_ONE).middle.shape[0] == len(layers)
    assert_close(teach(SCANNED), teach(ONE_BY_ONE))


@pytest.mark.parametrize("scan", [SCANNED, ONE_BY_ONE])
def test_whole_tiles_change_no_output(monkeypatch, scan):
    """18 tokens and cls become 32 on a TPU; tokens after the last block are those of the clip."""
    model = fluxvit(scan_blocks=scan)
    run = lambda: model.apply(variables_of(fluxvit()), VIDEO, return_tokens=True)  # noqa: E731
    expected, seen = run(), []
    monkeypatch.setattr(trunk, "place_of_tracing", lambda: Place("tpu"))
    tiles = trunk._whole_tiles
    monkeypatch.setattr(trunk, "_whole_tiles", lambda *args: seen.append(tiles(*args)) or seen[-1])
    assert_close(run(), expected)
    ((x, valid),) = seen
    assert x.shape[1] == 32 and np.sum(valid) == 2 * 19


def test_on_tpus_blocks_are_scanned_unless_the_model_says_otherwise(monkeypatch):
    model = fluxvit()
    bound = lambda scan: model.clone(scan_blocks=scan).bind(variables_of(model))  # noqa: E731
    assert [trunk.scans(bound(scan)) for scan in (None, True, False)] == [False, True, False]
    monkeypatch.setattr(trunk, "place_of_tracing", lambda: Place("tpu"))
    assert [trunk.scans(bound(scan)) for scan in (None, True, False)] == [True, True, False]


def test_scanned_drop_paths_drop_branches_of_whole_clips():
    """The last of two blocks drops each branch of a clip with 1/2, and doubles it otherwise."""
    model = fluxvit(depth=2, drop_path=0.5, scan_blocks=SCANNED)
    variables = variables_of(model)
    first, last = (variables["params"][f"blocks_{i}"] for i in range(2))
    x = np.random.default_rng(2).standard_normal((16, 9, 32)).astype(np.float32)
    block = fluxvit().bind(variables).blocks[0].clone(parent=None, name=None)

    def with_branches(attention, mlp):
        kept = dict(last)
        for name, factor in (("ls1", attention), ("ls2", mlp)):
            kept[name] = jax.tree.map(lambda scale, factor=factor: 2.0 * factor * scale, last[name])
        return block.apply({"params": kept}, middle, None, False)

    middle = block.apply({"params": first}, x, None, False)
    candidates = np.stack([with_branches(*kept) for kept in itertools.product((0, 1), repeat=2)])
    run = jax.jit(lambda key: model.apply(
        variables, x, rngs={"dropout": key},
        method=lambda model, x: trunk.run_blocks(model, x, None, True)[0],
    ))  # fmt: skip
    out = run(jax.random.key(0))
    nearest = np.abs(candidates - out).max(axis=(2, 3))  # [4, 16]
    assert nearest.min(axis=0).max() < 1e-4
    assert set(nearest.argmin(axis=0)) == {0, 1, 2, 3}
    assert not np.array_equal(out, run(jax.random.key(1)))
