"""UniFormer, frame flexible, against the official code: blocks, norms, the whole network.

v04 and v05 are cut to what these tests read; of v05 the low branch of the first clip.
"""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.ffn_3d_rows import attention_block_rows, conv_block_rows, patch_embed_rows
from fluxjax.convert.ffn_rows import adapter_rows
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.models.frame_flexible.uniformer_blocks import AttentionBlock, ConvBlock, PatchEmbed
from fluxjax.models.layers import LayerNorm
from tests.golden import fixture, traced

BLOCKS, SMALL = fixture("ffn", "v04"), fixture("ffn", "v05")
LABELS = (4, 8, 16)
BRANCH = {"L": 0, "M": 1, "H": 2}


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def close(case, name, actual):
    """Compares [B, .., C] with an output [B, C, ..]."""
    expected = channels_last(case.outputs[name]) if np.ndim(actual) > 2 else case.outputs[name]
    tolerances = case.meta["suggested_rtol"], case.meta["suggested_atol"]
    np.testing.assert_allclose(np.asarray(actual), expected, *tolerances, err_msg=name)


@functools.cache
def part(name):
    """A module of v04 and its variables."""
    config = BLOCKS.meta["config"]
    dim, heads = config["dim"], config["heads"]
    options = {"branches": 3, "adapters": True}
    made = {
        "cblock": (ConvBlock(**options), conv_block_rows),
        "sablock": (AttentionBlock(heads=heads, **options), attention_block_rows),
        "pe1": (PatchEmbed(dim, (3, 4, 4), (2, 4, 4), (1, 0, 0), branches=3), (dim, 3, 3, 4, 4)),
        "pe2": (PatchEmbed(dim + 8, branches=3), (dim + 8, dim, 1, 2, 2)),
    }
    module, table = made[name]
    if callable(table):
        rows = table(name, name, dim, 4 * dim, LABELS)
        rows += adapter_rows(f"{name}.adaconv", f"{name}/adaconv", dim, LABELS, axes=3)
    else:
        rows = patch_embed_rows(name, name, table, LABELS)
    own = {n: x for n, x in BLOCKS.params.items() if n.startswith(f"{name}.")}
    return module, {k: tree[name] for k, tree in to_variables(own, rows, name).items()}


@pytest.mark.parametrize(
    "output", [n for n in BLOCKS.outputs if n.count("_") == 1 and "trainBN" not in n]
)
def test_a_part_in_one_branch(output):
    name, letter = output.split("_")
    module, variables = part(name)
    x = channels_last(BLOCKS.inputs[f"{'img' if name == 'pe1' else 'x'}_{letter}"])
    out = jax.jit(functools.partial(module.apply, branch=BRANCH[letter]))(variables, x)
    close(BLOCKS, output, out)


def test_batch_statistics_are_the_branchs_own():
    module, variables = part("cblock")
    x = channels_last(BLOCKS.inputs["x_L"])
    out, moved = module.apply(variables, x, 0, train=True, mutable=["batch_stats"])
    close(BLOCKS, "cblock_trainBN_L", out)
    kept, moved = variables["batch_stats"], moved["batch_stats"]
    mean = moved["norm1_0"]["mean"]
    close(BLOCKS, "cblock_trainBN_state/norm1_4.running_mean", mean)
    for name in ("norm1", "norm2"):
        assert not np.array_equal(moved[f"{name}_0"]["var"], kept[f"{name}_0"]["var"])
        for other in (1, 2):
            jax.tree.map(
                np.testing.assert_array_equal, moved[f"{name}_{other}"], kept[f"{name}_{other}"]
            )


@pytest.mark.parametrize(
    "name, branch, epsilon",
    [("sablock.norm1", 0, 1e-6), ("pe1.norm", 1, 1e-5), ("pe2.norm", 2, 1e-5)],
)
def test_epsilon_of_layer_norms(name, branch, epsilon):
    owner, norm = name.split(".")
    x = BLOCKS.inputs["lowvar_pe2" if owner == "pe2" else "lowvar"]
    params = part(owner)[1]["params"][f"{norm}_{branch}"]
    out = LayerNorm(epsilon=epsilon).apply({"params": params}, x)
    close(BLOCKS, f"eps_{name}_{LABELS[branch]}", out)


def test_epsilon_of_batch_norms():
    own = {kind: tree["norm1_1"] for kind, tree in part("cblock")[1].items()}
    x = BLOCKS.inputs["lowvar"]
    out, _ = BatchNorm().apply(own, x, train=True, mutable=["batch_stats"])
    close(BLOCKS, "eps_cblock.norm1_8_train", out)


def test_the_parts_have_the_epsilons_that_are_tested():
    def epsilons(module, x):
        found = []

        def record(call, inputs, options, context):
            if isinstance(context.module, nn.LayerNorm):
                found.append(context.module.epsilon)
            return call(*inputs, **options)

        with nn.intercept_methods(record):
            jax.eval_shape(lambda x: module.apply(part(name)[1], x, 0), x)
        return set(found)

    for name, x, expected in (("sablock", "x_L", {1e-6}), ("pe1", "img_L", {1e-5})):
        assert epsilons(part(name)[0], channels_last(BLOCKS.inputs[x])) == {expected.pop()}


@functools.cache
def small():
    return fluxjax.load_torch("ffn", SMALL.params, head_dim=SMALL.meta["config"]["head_dim"])


def test_the_whole_network():
    model, variables = small()
    config = SMALL.meta["config"]
    assert model.widths == tuple(config["embed"]) and model.layers == tuple(config["depth"])
    assert model.frames == (4, 8, 16)
    video = channels_last(SMALL.inputs["video"])
    logits, calls = traced(model, variables, video)  # four frames: the low branch
    close(SMALL, "logits_L", logits)
    for stage, depth in enumerate(config["depth"], start=1):
        means = np.mean(calls[f"blocks{stage}_{depth - 1}"][1], axis=(2, 3))
        close(SMALL, f"L_blocks{stage}_gap", means)


def test_official_names_come_back():
    model, variables = small()
    state = fluxjax.to_torch(model, variables)
    assert set(state) == set(SMALL.params)
    for name, value in state.items():
        np.testing.assert_array_equal(value, SMALL.params[name], err_msg=name)
