"""Frame flexible networks start from plain ones: every branch gets their norms and statistics."""

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints import start_rules  # noqa: F401  registers the rules
from fluxjax.checkpoints.starting import start_from
from fluxjax.weight_files.errors import WeightsError

SIZES = {
    "tsm_r50": {"layers": (1, 1), "widths": (16, 32), "stem": 16},
    "tea_r50": {"layers": (1, 1), "widths": (16, 32), "stem": 16},
    "slowfast_ti": {"layers": (1, 1)},
    "uniformer_ti": {"layers": (1, 1), "widths": (16, 24)},
}
# A block's norm that has the statistics of batches.
NORM = {"slowfast_ti": ("s3_fast_res0", "c_bn"), "uniformer_ti": ("blocks2_0", "norm2")}


def drawn(name, classes, seed):
    model = fluxjax.create_model(name, classes, **SIZES[name.removesuffix("_ffn")])
    video = jax.ShapeDtypeStruct((1, 4, 32, 32, 3), np.float32)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)
    return model, jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


@pytest.mark.parametrize("name", SIZES)
def test_a_plain_network_starts_all_branches(name):
    source, stored = drawn(name, 7, 0)
    model, initial = drawn(f"{name}_ffn", 5, 1)
    started = start_from(source, stored, model, initial, "here")
    assert jax.tree.structure(started) == jax.tree.structure(initial)
    block, norm = NORM.get(name, ("layer2_block0", "bn3"))
    for kind, value in (("params", "scale"), ("batch_stats", "var")):
        own, theirs = (tree[kind][block] for tree in (started, stored))
        for i in range(3):
            assert np.array_equal(own[f"{norm}_{i}"][value], theirs[f"{norm}_0"][value])
    # Other classes, and what a plain network lacks, keep their initial values.
    assert np.array_equal(started["params"]["head"]["bias"], initial["params"]["head"]["bias"])
    if name != "tea_r50":
        adapters = (x["params"][block]["adaconv_1"] for x in (started, initial))
        assert np.array_equal(*(adapter["kernel"] for adapter in adapters))


def test_branches_start_from_those_of_the_same_number():
    source, stored = drawn("tsm_r50_ffn", 5, 0)
    model, initial = drawn("tsm_r50_ffn", 5, 1)
    started = start_from(source, stored, model, initial, "here")
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, started, stored)))
    with pytest.raises(WeightsError, match="is not in the model"):
        start_from(source, stored, *drawn("tsm_r50", 5, 1), "here")
