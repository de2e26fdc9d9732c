"""Frame flexible networks start from plain ones: every branch gets their norms and statistics."""

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints import start_rules  # noqa: F401  registers the rules
from fluxjax.checkpoints.starting import start_from
from fluxjax.weight_files.errors import WeightsError

SIZES = {"layers": (1, 1), "widths": (16, 32), "stem": 16}


def drawn(name, classes, seed):
    model = fluxjax.create_model(name, classes, **SIZES)
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), np.float32)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)
    return model, jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


@pytest.mark.parametrize("name", ["tsm_r50", "tea_r50"])
def test_a_plain_network_starts_all_branches(name):
    source, stored = drawn(name, 7, 0)
    model, initial = drawn(f"{name}_ffn", 5, 1)
    started = start_from(source, stored, model, initial, "here")
    assert jax.tree.structure(started) == jax.tree.structure(initial)
    for kind, value in (("params", "scale"), ("batch_stats", "var")):
        own, theirs = (tree[kind]["layer2_block0"] for tree in (started, stored))
        for i in range(3):
            assert np.array_equal(own[f"bn3_{i}"][value], theirs["bn3_0"][value])
    # Other classes, and what a plain network lacks, keep their initial values.
    assert np.array_equal(started["params"]["head"]["bias"], initial["params"]["head"]["bias"])
    if name == "tsm_r50":
        adapters = (x["params"]["layer1_block0"]["adaconv_1"] for x in (started, initial))
        assert np.array_equal(*(adapter["kernel"] for adapter in adapters))


def test_branches_start_from_those_of_the_same_number():
    source, stored = drawn("tsm_r50_ffn", 5, 0)
    model, initial = drawn("tsm_r50_ffn", 5, 1)
    started = start_from(source, stored, model, initial, "here")
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, started, stored)))
    with pytest.raises(WeightsError, match="is not in the model"):
        start_from(source, stored, *drawn("tsm_r50", 5, 1), "here")
