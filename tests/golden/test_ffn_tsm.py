"""TSM, frame flexible, against the official code: shift, blocks, whole network, the branch rule.

The repository has no v02 and v03; its networks run in test_ffn_gradients.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.ffn_2d_rows import BlockSizes, shortcut_rows, tsm_rows
from fluxjax.convert.ffn_rows import adapter_rows
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.branches import nearest_branch
from fluxjax.models.frame_flexible.layers import temporal_shift
from fluxjax.models.frame_flexible.tsm import BasicBlock, Bottleneck, Tsm
from tests.golden import fixture, traced

LABELS = FRAMES = (4, 8, 16)
INDEX = {"L": 0, "M": 1, "H": 2}


def channels_last(x):
    return np.moveaxis(x, -3, -1)


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


def test_temporal_shift_is_exact():
    case = fixture("ffn", "v01")
    shapes = case.meta["config"]["shift_shapes"]
    names = [name for name in case.inputs if name[1:].isdecimal()]
    assert len(names) >= 3
    for name in names:
        out = temporal_shift(channels_last(case.inputs[name]), shapes[int(name[1:])][1])
        assert np.array_equal(channels_first(out), case.outputs[name.replace("x", "y")]), name


def test_the_shift_that_leaks_and_the_one_that_does_not():
    case = fixture("ffn", "v01")
    x = channels_last(case.inputs["leak_x"])
    for segments, name in ((16, "leak_y_nseg16"), (4, "noleak_y_nseg4")):
        assert np.array_equal(channels_first(temporal_shift(x, segments)), case.outputs[name])
    with pytest.raises(ValueError, match="16 frames are no multiple of 5"):
        temporal_shift(x, 5)


@functools.cache
def block(name):
    """A block of v02 and its variables."""
    case = fixture("ffn", "v02")
    width_in, width = case.meta["config"]["inplanes"], case.meta["config"]["planes"]
    sizes = {"ds": (width_in, width), "id": (4 * width, width), "basic": (width_in, width_in)}
    sizes = BlockSizes(name, "", *sizes[name], shortcut=name == "ds")
    stride = case.meta["config"]["stride"] if name == "ds" else 1
    kind = BasicBlock if name == "basic" else Bottleneck
    module = kind(
        width=sizes.width, stride=stride, shortcut=sizes.shortcut, branches=3, adapters=True
    )
    rows = tsm_rows(sizes, Tsm(bottleneck=kind is Bottleneck), LABELS)
    rows += adapter_rows(f"{name}.adaconv", "/adaconv", sizes.width_in, LABELS, axes=2)
    if sizes.shortcut:
        rows += shortcut_rows(sizes, 4 * sizes.width, LABELS)
    own = {n: x for n, x in case.params.items() if n.startswith(f"{name}.")}
    variables = to_variables(own, rows, name)
    return module, {kind: tree[""] for kind, tree in variables.items()}


@functools.cache
def applied(name, branch, segments, train=False):
    module, _ = block(name)
    return jax.jit(
        lambda v, x: module.apply(v, x, branch, segments, train, mutable=["batch_stats"])
    )


@pytest.mark.parametrize("letter", INDEX)
@pytest.mark.parametrize("name", ["ds", "id", "basic"])
def test_blocks(name, letter):
    case, branch = fixture("ffn", "v02"), INDEX[letter]
    x = channels_last(case.inputs[f"{'xid' if name == 'id' else 'x'}_{letter}"])
    for output, segments in (("eval", FRAMES[branch]), ("trainpath_leak", 16)):
        out, _ = applied(name, branch, segments)(block(name)[1], x)
        case.check(f"{name}_{output}_{letter}", channels_first(out))


@pytest.mark.parametrize("letter", INDEX)
def test_a_block_in_training_keeps_its_branch_s_statistics(letter):
    case, branch = fixture("ffn", "v02"), INDEX[letter]
    variables = block("ds")[1]
    x = channels_last(case.inputs[f"x_{letter}"])
    out, kept = applied("ds", branch, FRAMES[branch], True)(variables, x)
    case.check(f"ds_trainBN_{letter}", channels_first(out))
    checked = 0
    for output in case.outputs:
        norm, _, kind = output.removeprefix("ds_trainBN_state/").partition(".running_")
        if kind and norm.endswith(f"_{LABELS[branch]}"):
            norm = norm.removesuffix(str(LABELS[branch])) + str(branch)
            case.check(output, kept["batch_stats"][norm][kind])
            checked += 1
    assert checked
    for norm, before in variables["batch_stats"].items():
        same = np.array_equal(kept["batch_stats"][norm]["mean"], before["mean"])
        assert same != norm.endswith(f"_{branch}"), norm


@functools.cache
def small():
    return fluxjax.load_torch("ffn", fixture("ffn", "v03").params)


@functools.cache
def forward(branch):
    return jax.jit(lambda v, x: small()[0].apply(v, x, branch))


def test_any_frame_number_and_any_branch():
    case = fixture("ffn", "v03")
    video = channels_last(case.inputs["video"])
    outputs = [name for name in case.outputs if name.startswith("logits_T")]
    assert len(outputs) > 5
    for output in outputs:
        frames = int(output.split("_")[1][1:])
        forced = FRAMES[INDEX[output[-1]]] if "forced" in output else None
        case.check(output, forward(forced)(small()[1], video[:, :frames]))


def test_the_features_of_stages():
    case = fixture("ffn", "v03")
    video, depths = channels_last(case.inputs["video"]), case.meta["config"]["layers"]
    outputs = [name for name in case.outputs if name.endswith("_gap")]
    for frames in sorted({int(name.split("_")[0][1:]) for name in outputs}):
        _, calls = traced(*small(), video[:, :frames])
        for stage, depth in enumerate(depths, start=1):
            found = np.mean(calls[f"layer{stage}_block{depth - 1}"][1], axis=(1, 2))
            case.check(f"T{frames}_layer{stage}_gap", found.reshape(len(video), frames, -1))


def test_training_s_shift_with_the_kept_statistics():
    case = fixture("ffn", "v03")
    outputs = [name for name in case.outputs if name.startswith("trainpath_")]
    model, variables = small()
    for output in outputs:
        _, form, letter = output.split("_")
        frames = FRAMES[INDEX[letter]]
        video = channels_last(case.inputs["video"])[:, :frames]
        segments = 16 if form == "leak" else frames
        logits, _ = jax.jit(
            lambda v, x, f=frames, s=segments: model.apply(v, x, f, s, method="frame_logits")
        )(variables, video)
        case.check(output, jnp.mean(logits, axis=1))


def test_the_nearest_branch():
    case = fixture("ffn", "v09")
    for middle, low in ((8, 4), *case.meta["config"]["other_ML"]):
        frames = (low, middle, 16)
        found = [LABELS[nearest_branch(n, frames)] for n in case.inputs["frames"]]
        assert found == case.outputs[f"branch_M{middle}_L{low}"].tolist()


def test_official_names_come_back_as_they_were():
    params = fixture("ffn", "v03").params
    names = {n for n in params if not n.endswith("num_batches_tracked")}
    state = fluxjax.to_torch(*small())
    assert set(state) == names
    assert all(np.array_equal(state[name], params[name]) for name in names)
