"""The frame flexible networks against the official code: whole networks, and their parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.ffn_names import table
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.branches import branch_names, nearest
from fluxjax.models.frame_flexible.shift import shift
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.tea import MotionExcitation, Tea, TeaBlock, TemporalConv
from fluxjax.models.frame_flexible.tsm import ShiftBlock, Tsm
from fluxjax.models.frame_flexible.uniformer import UniFormer
from fluxjax.models.frame_flexible.uniformer_blocks import AttentionBlock, ConvBlock, PatchEmbed
from tests.golden import fixture

FRAMES = (4, 8, 16)
NORM = {"names": branch_names(FRAMES), "groups": 1, "dtype": jnp.float32}
LETTERS = "LMH"


def close(case, name, actual):
    """Asserts that an array is the fixture's output of that name."""
    bound = case.meta["suggested_atol"], case.meta["suggested_rtol"]
    np.testing.assert_allclose(actual, case.outputs[name], bound[1], bound[0], err_msg=name)


def last(x):
    """Channels last: [N, C, ..] -> [N, .., C]."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


def first(x):
    """Channels first again."""
    return np.moveaxis(np.asarray(x), -1, 1)


def part(case, prefix, module, kind, *args):
    """Variables of a module that are the fixture's, below a prefix."""
    shapes = jax.eval_shape(lambda key: module.init(key, *args), jax.random.key(0))
    rows = table(shapes, kind, FRAMES)
    state = {n.removeprefix(prefix): x for n, x in case.params.items() if n.startswith(prefix)}
    return to_variables(state, rows, prefix)


def test_shift_is_exact():
    case = fixture("ffn", "v01")
    for i, shape in enumerate(case.meta["config"]["shift_shapes"]):
        if f"x{i}" not in case.inputs:
            continue
        y = first(shift(last(case.inputs[f"x{i}"]), shape[1]))
        np.testing.assert_array_equal(y, case.outputs[f"y{i}"])
    x = last(case.inputs["leak_x"])
    np.testing.assert_array_equal(first(shift(x, 16)), case.outputs["leak_y_nseg16"])
    np.testing.assert_array_equal(first(shift(x, 4)), case.outputs["noleak_y_nseg4"])


@pytest.mark.parametrize("width", [8, 12])
def test_temporal_convolution(width):
    case = fixture("ffn", "v01")
    kernel = case.params[f"tea_shift_c{width}.conv.weight"].transpose(2, 1, 0)
    for letter, frames in (("L", 4), ("M", 8)):
        name = f"tea_c{width}_{letter}"
        x = last(case.inputs[name])
        y = TemporalConv().apply({"params": {"kernel": kernel}}, x, frames)
        np.testing.assert_allclose(first(y), case.outputs[name], atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "data", "block"),
    [
        ("ds", "x", ShiftBlock(16, 2, 4, NORM, True)),
        ("id", "xid", ShiftBlock(16, 1, 4, NORM, True)),
        ("basic", "x", ShiftBlock(32, 1, 1, NORM, True)),
    ],
)
def test_shift_blocks(prefix, data, block):
    case = fixture("ffn", "v02")
    x = last(case.inputs[f"{data}_L"])
    variables = part(case, f"{prefix}.", block, Tsm, x, 0, 4, False)
    close(case, f"{prefix}_eval_L", first(block.apply(variables, x, 0, 4, False)))


def test_batch_statistics_move_as_torchs():
    case, block = fixture("ffn", "v02"), ShiftBlock(16, 2, 4, NORM, True)
    x = last(case.inputs["x_L"])
    before = part(case, "ds.", block, Tsm, x, 0, 4, False)
    y, moved = block.apply(before, x, 0, 4, True, mutable=["batch_stats"])
    close(case, "ds_trainBN_L", first(y))
    variables = {**before, **moved}
    for name in ("frames_8", "frames_16"):  # did not run
        old, new = (v["batch_stats"]["bn1"][name] for v in (before, variables))
        jax.tree.map(np.testing.assert_array_equal, old, new)
    states = {row.name: row for row in table(variables, Tsm, FRAMES)}
    for name in case.outputs:
        if name.startswith("ds_trainBN_state/"):
            module, branch, leaf = states[name.partition("/")[2]].paths[0].split("/")
            close(case, name, variables["batch_stats"][module][branch][leaf])


@pytest.mark.parametrize("prefix", ["me", "stage", "normal"])
def test_tea(prefix):
    case = fixture("ffn", "v07")
    block = {
        "me": MotionExcitation(NORM),
        "stage": TeaBlock(40, 2, True, NORM),
        "normal": TeaBlock(40, 1, False, NORM),
    }[prefix]
    data = {"me": "me", "stage": "x", "normal": "xn"}[prefix]
    x = last(case.inputs[f"{data}_L"])
    variables = part(case, f"{prefix}.", block, Tea, x, 0, 4, False)
    close(case, f"{prefix}_L", first(block.apply(variables, x, 0, 4, False)))


@pytest.mark.parametrize("prefix", ["cblock", "sablock"])
def test_uniformer_blocks(prefix):
    case = fixture("ffn", "v04")
    block = {"cblock": ConvBlock, "sablock": AttentionBlock}[prefix](NORM, True, head_dim=8)
    variables = part(case, f"{prefix}.", block, UniFormer, last(case.inputs["x_L"]), 0, False)
    for i, letter in enumerate("LM"):
        x = last(case.inputs[f"x_{letter}"])
        close(case, f"{prefix}_{letter}", first(block.apply(variables, x, i, False)))
        if prefix == "cblock":
            y, _ = block.apply(variables, x, i, True, mutable=["batch_stats"])
            close(case, f"cblock_trainBN_{letter}", first(y))


def test_uniformer_patch_embeddings():
    case = fixture("ffn", "v04")
    large = PatchEmbed(32, (3, 4, 4), (2, 4, 4), (1, 0, 0), NORM["names"])
    small = PatchEmbed(40, (1, 2, 2), (1, 2, 2), (0, 0, 0), NORM["names"])
    for name, data, module in (("pe1", "img", large), ("pe2", "x", small)):
        x = last(case.inputs[f"{data}_L"])
        variables = part(case, f"{name}.", module, UniFormer, x, 0)
        close(case, f"{name}_L", first(module.apply(variables, x, 0)))


def test_tsm():
    case = fixture("ffn", "v03")
    model, variables = fluxjax.load_torch("ffn", case.params)
    assert (type(model), model.frames) == (Tsm, FRAMES)
    apply = jax.jit(model.apply, static_argnames="branch")
    video = jnp.asarray(case.inputs["video"].transpose(0, 1, 3, 4, 2))
    for frames in (2, 4, 6, 7, 8):
        letter = LETTERS[FRAMES.index(nearest(FRAMES, frames))]
        logits = apply(variables, video[:, :frames])
        close(case, f"logits_T{frames}_branch{letter}", logits)
    for letter, frames in zip(LETTERS, FRAMES, strict=True):
        logits = apply(variables, video[:, :8], branch=frames)
        close(case, f"logits_T8_forced_{letter}", logits)


def test_uniformer():
    case = fixture("ffn", "v05")
    model, variables = fluxjax.load_torch("ffn", case.params, head_dim=16)
    assert (type(model), model.frames) == (UniFormer, FRAMES)
    apply = jax.jit(model.apply, static_argnames="branch")
    video = jnp.asarray(case.inputs["video"].transpose(0, 2, 3, 4, 1))
    for letter, frames in zip(LETTERS, FRAMES, strict=True):
        logits = apply(variables, video, branch=frames)
        close(case, f"logits_8frames_forced_{letter}", logits)


def test_slowfast():
    case = fixture("ffn", "v06")
    model, variables = fluxjax.load_torch("ffn", case.params, frames=(8, 16))
    assert type(model) is SlowFast
    for letter in "LM":
        clip = jnp.asarray(case.inputs[f"fast_{letter}"].transpose(0, 2, 3, 4, 1))
        logits = model.apply(variables, clip)
        close(case, f"logits_{letter}", logits)
        close(case, f"probs_{letter}", jax.nn.softmax(logits))


def test_the_nearest_branch():
    case = fixture("ffn", "v09")
    for m, low in ((8, 4), *map(tuple, case.meta["config"]["other_ML"])):
        found = [nearest((low, m, 16), int(n)) for n in case.inputs["frames"]]
        # The fixture calls branches by their places.
        labels = np.array(FRAMES)[[sorted((low, m, 16)).index(n) for n in found]]
        np.testing.assert_array_equal(labels, case.outputs[f"branch_M{m}_L{low}"])


@pytest.mark.parametrize("case", ["v03", "v05"])
def test_names_go_back(case):
    case = fixture("ffn", case)
    options = {"v05": {"head_dim": 16}}.get(case.name[:3], {})
    state = fluxjax.to_torch(*fluxjax.load_torch("ffn", case.params, **options))
    given = {n: x for n, x in case.params.items() if not n.endswith("num_batches_tracked")}
    assert set(state) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
