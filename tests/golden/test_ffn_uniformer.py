"""UniFormer, frame flexible, against the official code: blocks, norms, the whole network.

The repository's copy of v04 has the low branch; it has no v05.
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

LABELS = FRAMES = (4, 8, 16)
BRANCH = {"L": 0, "M": 1, "H": 2}


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def close(case, name, actual):
    """Compares [B, .., C] with an output [B, C, ..]."""
    case.check(name, np.moveaxis(np.asarray(actual), -1, 1))


def _first_embedding(dim):
    sizes = {"kernel": (3, 4, 4), "stride": (2, 4, 4), "padding": (1, 0, 0)}
    return PatchEmbed(width=dim, **sizes, branches=3)


@functools.cache
def part(name):
    """A module of v04 and its variables."""
    case = fixture("ffn", "v04")
    config = case.meta["config"]
    dim, heads = config["dim"], config["heads"]
    options = {"branches": 3, "adapters": True}
    made = {
        "cblock": (ConvBlock(**options), conv_block_rows),
        "sablock": (AttentionBlock(heads=heads, **options), attention_block_rows),
        "pe1": (_first_embedding(dim), (dim, 3, 3, 4, 4)),
        "pe2": (PatchEmbed(width=dim + 8, branches=3), (dim + 8, dim, 1, 2, 2)),
    }
    module, table = made[name]
    if callable(table):
        rows = table(name, name, dim, 4 * dim, LABELS)
        rows += adapter_rows(f"{name}.adaconv", f"{name}/adaconv", dim, LABELS, axes=3)
    else:
        rows = patch_embed_rows(name, name, table, LABELS)
    own = {n: x for n, x in case.params.items() if n.startswith(f"{name}.")}
    return module, {k: tree[name] for k, tree in to_variables(own, rows, name).items()}


@pytest.mark.parametrize("name", ["cblock", "sablock", "pe1", "pe2"])
def test_a_part_in_its_branches(name):
    case = fixture("ffn", "v04")
    module, variables = part(name)
    letters = [letter for letter in BRANCH if f"{name}_{letter}" in case.outputs]
    assert letters
    for letter in letters:
        x = channels_last(case.inputs[f"{'img' if name == 'pe1' else 'x'}_{letter}"])
        out = jax.jit(functools.partial(module.apply, branch=BRANCH[letter]))(variables, x)
        close(case, f"{name}_{letter}", out)


@pytest.mark.parametrize("letter", BRANCH)
def test_batch_statistics_are_the_branchs_own(letter):
    case, branch = fixture("ffn", "v04"), BRANCH[letter]
    if f"cblock_trainBN_{letter}" not in case.outputs:
        pytest.skip(f"the repository's copy of v04 has not the branch {letter}")
    module, variables = part("cblock")
    x = channels_last(case.inputs[f"x_{letter}"])
    out, moved = module.apply(variables, x, branch, train=True, mutable=["batch_stats"])
    close(case, f"cblock_trainBN_{letter}", out)
    kept, moved = variables["batch_stats"], moved["batch_stats"]
    for output in case.outputs:
        norm, _, kind = output.removeprefix("cblock_trainBN_state/").partition(".running_")
        if kind and norm.endswith(f"_{LABELS[branch]}"):
            case.check(output, moved[f"{norm.split('_')[0]}_{branch}"][kind])
    for norm in kept:
        same = np.array_equal(moved[norm]["var"], kept[norm]["var"])
        assert same != norm.endswith(f"_{branch}"), norm


@pytest.mark.parametrize(
    "name, branch, epsilon",
    [("sablock.norm1", 0, 1e-6), ("pe1.norm", 1, 1e-5), ("pe2.norm", 2, 1e-5)],
)
def test_epsilon_of_layer_norms(name, branch, epsilon):
    case, (owner, norm) = fixture("ffn", "v04"), name.split(".")
    x = case.inputs["lowvar_pe2" if owner == "pe2" else "lowvar"]
    params = part(owner)[1]["params"][f"{norm}_{branch}"]
    out = LayerNorm(epsilon=epsilon).apply({"params": params}, x)
    case.check(f"eps_{name}_{LABELS[branch]}", out)


def test_epsilon_of_batch_norms():
    case = fixture("ffn", "v04")
    own = {kind: tree["norm1_1"] for kind, tree in part("cblock")[1].items()}
    x = case.inputs["lowvar"]
    out, _ = BatchNorm().apply(own, x, train=True, mutable=["batch_stats"])
    case.check("eps_cblock.norm1_8_train", out)


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
        x = channels_last(fixture("ffn", "v04").inputs[x])
        assert epsilons(part(name)[0], x) == {expected.pop()}


@functools.cache
def small():
    case = fixture("ffn", "v05")
    return fluxjax.load_torch("ffn", case.params, head_dim=case.meta["config"]["head_dim"])


# Frames of the fixture's 16 that each branch saw.
SEEN = {"L": slice(1, None, 4), "M": slice(0, None, 2), "H": slice(None)}


@pytest.mark.parametrize("letter", BRANCH)
def test_the_whole_network(letter):
    case, (model, variables) = fixture("ffn", "v05"), small()
    config = case.meta["config"]
    assert model.widths == tuple(config["embed"]) and model.layers == tuple(config["depth"])
    assert model.frames == FRAMES
    video = channels_last(case.inputs["video"])
    logits, calls = traced(model, variables, video[:, SEEN[letter]])
    case.check(f"logits_{letter}", logits)
    case.check(f"joint_logits_{letter}", logits)
    for stage, depth in enumerate(config["depth"], start=1):
        means = np.mean(calls[f"blocks{stage}_{depth - 1}"][1], axis=(2, 3))
        close(case, f"{letter}_blocks{stage}_gap", means)
    forced = jax.jit(lambda v, x: model.apply(v, x, FRAMES[BRANCH[letter]]))
    case.check(f"logits_8frames_forced_{letter}", forced(variables, video[:, SEEN["M"]]))


def test_official_names_come_back():
    model, variables = small()
    state, params = fluxjax.to_torch(model, variables), fixture("ffn", "v05").params
    names = {name for name in params if not name.endswith("num_batches_tracked")}
    assert set(state) == names
    for name in names:
        np.testing.assert_array_equal(state[name], params[name], err_msg=name)
