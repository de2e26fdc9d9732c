"""Tokens after the last block, for language models: values, places and validity on mixed grids."""

import jax
import numpy as np
import pytest

import fluxjax
from tests.models.test_fluxvit import GRIDS, clip, dense, model_and_variables


@pytest.fixture(scope="module")
def found():
    """Packed clips at 12 tokens and with all of them, logits first."""
    model, variables = model_and_variables()
    packed = fluxjax.pack([clip(grid) for grid in GRIDS], max_tokens=40)

    @jax.jit
    def run(variables, packed):
        outputs = [model.apply(variables, packed, budget, return_tokens=True)
                   for budget in (12, None)]  # fmt: skip
        kept = model.apply(variables, packed, 12, method="kept_tokens")
        return outputs, model.apply(variables, packed, 12), kept

    return jax.device_get(run(variables, packed))


def test_they_are_the_last_blocks_of_each_clip_alone(found):
    model, variables = model_and_variables()
    (_, tokens), _ = found[0]
    run = jax.jit(
        lambda v, x: model.apply(v, x, 12, capture_intermediates=_last)[1]["intermediates"]
    )
    for row, grid in enumerate(GRIDS):
        (x,) = run(variables, dense(clip(grid)))["blocks_1"]["__call__"]
        count = int(tokens.valid[row].sum())
        assert count == x.shape[1] - 1 and np.all(tokens.valid[row, :count])
        np.testing.assert_allclose(tokens.values[row, :count], x[0, 1:], rtol=1e-4, atol=2e-4)
        assert not np.any(tokens.values[row, count:]) and tokens.values.dtype == np.float32


def _last(module, method):
    return module.name == "blocks_1" and method == "__call__"


def test_places_are_those_of_the_kept_and_of_all(found):
    ((logits, tokens), (_, whole)), plain, kept = found
    np.testing.assert_array_equal(logits, plain)
    np.testing.assert_array_equal(tokens.valid, kept.valid)
    np.testing.assert_array_equal(tokens.position[kept.valid], kept.position[kept.valid])
    np.testing.assert_array_equal(tokens.grid, GRIDS)
    for row, grid in enumerate(GRIDS):
        places = np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=-1)
        np.testing.assert_array_equal(whole.position[row][whole.valid[row]], places)
        inside = tokens.position[row][tokens.valid[row]]
        assert np.all(inside < grid) and len({tuple(x) for x in inside.tolist()}) == len(inside)


def test_merged_tokens_have_no_place():
    model, variables = model_and_variables()
    with pytest.raises(ValueError, match=r"merge=\(2,\) leaves tokens without places"):
        jax.eval_shape(
            lambda v, x: model.apply(v, x, 12, merge=(2,), return_tokens=True),
            variables, dense(clip((4, 3, 2))),
        )  # fmt: skip


def test_features_come_between_logits_and_tokens():
    model, variables = model_and_variables()
    shapes = jax.eval_shape(
        lambda v, x: model.apply(v, x, 12, return_features=True, return_tokens=True),
        variables, dense(clip((4, 3, 2))),
    )  # fmt: skip
    assert [x.shape for x in shapes[:2]] == [(1, 5), (1, 16)]
    assert shapes[2].values.shape == (1, 12, 32)
    tower = model.clone(num_classes=None)
    features, tokens = jax.eval_shape(
        lambda v, x: tower.apply(v, x, return_tokens=True), variables, dense(clip((2, 1, 3)))
    )
    assert features.shape == (1, 16) and tokens.values.shape == (1, 6, 32)
