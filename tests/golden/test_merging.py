"""vid-TLDR: saliency and merging against the official code and its copy in FluxViT (v08)."""

import jax
import numpy as np
import pytest

from fluxjax.tokens.merging import merge as eager_merge
from fluxjax.tokens.merging import merge_count
from fluxjax.tokens.merging import saliency as eager_saliency
from tests.golden import fixture

merge = jax.jit(eager_merge, static_argnames=("r", "protect_first", "average"))
saliency = jax.jit(eager_saliency, static_argnames="measure")
SALIENCY = fixture("vidtldr", "vidtldr_saliency")
MERGING = fixture("vidtldr", "vidtldr_merging")
PORT = fixture("fluxvit", "v08")


def close(actual, expected, atol, rtol=0.0):
    np.testing.assert_allclose(np.asarray(actual), expected[..., 0], atol=atol, rtol=rtol)


@pytest.mark.parametrize("case", range(len(SALIENCY.meta["shapes_B_H_N_temperature"])))
def test_saliency(case):
    score = np.asarray(saliency(SALIENCY.inputs[f"attn{case}"]))
    expected = SALIENCY.outputs[f"score{case}"]
    close(score, expected, atol=1e-4)
    np.testing.assert_array_equal(score == 0, expected[..., 0] == 0)  # the background, exactly


@pytest.mark.parametrize("case", MERGING.meta["cases"], ids=lambda case: f"c{case['case']}")
def test_one_merge(case):
    name = f"c{case['case']}"
    x = MERGING.inputs[f"{name}/x"]
    score, mass = (MERGING.inputs.get(f"{name}/{key}") for key in ("score", "size"))
    squeezed = [None if array is None else array[..., 0] for array in (score, mass)]
    merged = merge(x, squeezed[0], case["r"], mass=squeezed[1])
    np.testing.assert_allclose(merged.values, MERGING.outputs[f"{name}/x"], atol=2e-5, rtol=1e-4)
    close(merged.mass, MERGING.outputs[f"{name}/size"], atol=1e-5)
    assert merged.valid.all()
    stay, sources, partners = (
        MERGING.outputs[f"{name}/{key}_idx"] for key in ("unm", "src", "dst")
    )
    slots = np.arange(x.shape[1])
    for b in range(x.shape[0]):
        expected = np.empty(x.shape[1], int)
        expected[2 * stay[b]] = np.arange(stay.shape[1])
        expected[slots % 2 == 1] = stay.shape[1] + np.arange(x.shape[1] // 2)
        expected[2 * sources[b]] = stay.shape[1] + partners[b]
        np.testing.assert_array_equal(merged.assignment[b], expected)


def test_chain_of_merges():
    """Mass carries over, and saliency comes from each step's own attention."""
    x, mass = MERGING.inputs["chain/x"], None
    for i, (r, left) in enumerate(
        zip(MERGING.meta["chain"]["r"], MERGING.meta["chain"]["tokens_after"], strict=True)
    ):
        if merge_count(x.shape[1], r):
            score = saliency(MERGING.inputs[f"chain/attn{i}"])
            merged = merge(x, score, r, mass=mass)
            x, mass = merged.values, merged.mass
            close(mass, MERGING.outputs[f"chain/size{i}"], atol=1e-5)
        assert x.shape[1] == left
        np.testing.assert_allclose(x, MERGING.outputs[f"chain/x{i}"], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("run", PORT.meta["runs"], ids=lambda run: run["name"])
def test_copy_in_fluxvit(run):
    """Its saliency and sums (v08): r there counts the tokens to keep."""
    name, tokens = run["name"], run["N"]
    x, attention = PORT.inputs[f"{name}_x"], PORT.inputs[f"{name}_attn"]
    score = saliency(attention, measure="gini" if run["use_gini"] else "entropy")
    PORT.check(f"{name}_score", score[..., None], "score")
    protect = run["with_cls_token"]
    removed = merge_count(tokens, max(tokens - run["r"], 0), protect)
    assert removed == run["r_merge"]
    merged = merge(x, score, removed, protect_first=protect, average=False).values if removed else x
    PORT.check(f"{name}_merged", merged, "merged")
