"""TSM, frame flexible, against the official code: shift, blocks, whole network, a training step.

v02 and v03 are cut to the clips that these tests read; frames that none needs are zeros.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.convert.ffn_2d_rows import BlockSizes, shortcut_rows, tsm_rows
from fluxjax.convert.ffn_rows import adapter_rows
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.branches import nearest_branch
from fluxjax.models.frame_flexible.layers import temporal_shift
from fluxjax.models.frame_flexible.tsm import BasicBlock, Bottleneck, Tsm
from tests.golden import fixture

SHIFT, BLOCKS = fixture("ffn", "v01"), fixture("ffn", "v02")
SMALL, STEP, RULE = fixture("ffn", "v03"), fixture("ffn", "v08"), fixture("ffn", "v09")
LABELS = FRAMES = (4, 8, 16)
BRANCH = {"L": 0, "M": 1, "H": 2}


def channels_last(x):
    return np.moveaxis(x, -3, -1)


def close(case, name, actual, rows=None, tolerance=None):
    """Compares with the first `rows` of an output, in the fixture's layout."""
    atol, rtol = tolerance or (case.meta["suggested_atol"], case.meta["suggested_rtol"])
    expected = case.outputs[name][:rows]
    np.testing.assert_allclose(np.asarray(actual)[:rows], expected, rtol, atol, err_msg=name)


@pytest.mark.parametrize("name", ["x0", "x3", "x4", "x5"])
def test_temporal_shift_is_exact(name):
    segments = SHIFT.meta["config"]["shift_shapes"][int(name[1])][1]
    out = temporal_shift(channels_last(SHIFT.inputs[name]), segments)
    assert np.array_equal(out, channels_last(SHIFT.outputs[name.replace("x", "y")]))


def test_the_shift_that_leaks_and_the_one_that_does_not():
    x = channels_last(SHIFT.inputs["leak_x"])
    for segments, name in ((16, "leak_y_nseg16"), (4, "noleak_y_nseg4")):
        assert np.array_equal(temporal_shift(x, segments), channels_last(SHIFT.outputs[name]))
    with pytest.raises(ValueError, match="16 frames are no multiple of 5"):
        temporal_shift(x, 5)


@functools.cache
def block(name):
    """A block of v02 and its variables."""
    config = BLOCKS.meta["config"]
    width_in, width = config["inplanes"], config["planes"]
    sizes = {"ds": (width_in, width), "id": (4 * width, width), "basic": (width_in, width_in)}
    sizes = BlockSizes(name, "", *sizes[name], shortcut=name == "ds")
    fields = {
        "width": sizes.width, "stride": config["stride"] if name == "ds" else 1, "branches": 3,
        "adapters": True, "shortcut": sizes.shortcut,
    }  # fmt: skip
    bottleneck = name != "basic"
    rows = tsm_rows(sizes, Tsm(bottleneck=bottleneck), LABELS)
    rows += adapter_rows(f"{name}.adaconv", "/adaconv", sizes.width_in, LABELS, axes=2)
    if sizes.shortcut:
        rows += shortcut_rows(sizes, 4 * sizes.width, LABELS)
    own = {n: x for n, x in BLOCKS.params.items() if n.startswith(f"{name}.")}
    variables = to_variables(own, rows, name)
    variables = {kind: tree[""] for kind, tree in variables.items()}
    return (Bottleneck if bottleneck else BasicBlock)(**fields), variables


@pytest.mark.parametrize(
    "name, x, output, segments, rows",
    [
        ("ds", "x_L", "ds_eval_L", 4, None),
        ("ds", "x_L", "ds_trainpath_leak_L", 16, None),
        ("id", "xid_L", "id_eval_L", 4, None),
        ("basic", "x_L", "basic_eval_L", 4, 4),
    ],
)
def test_blocks(name, x, output, segments, rows):
    model, variables = block(name)
    x = channels_last(BLOCKS.inputs[x])
    out = jax.jit(lambda v, x: model.apply(v, x, BRANCH[output[-1]], segments))(variables, x)
    close(BLOCKS, output, np.moveaxis(out, -1, 1), rows)


def test_a_block_in_training_keeps_its_branch_s_statistics():
    model, variables = block("ds")
    x = channels_last(BLOCKS.inputs["x_L"])
    out, kept = jax.jit(
        lambda v, x: model.apply(v, x, 0, 4, True, mutable=["batch_stats"]),
    )(variables, x)
    close(BLOCKS, "ds_trainBN_L", np.moveaxis(out, -1, 1))
    before, after = variables["batch_stats"], kept["batch_stats"]
    for name in ("bn1_4.running_mean", "bn1_4.running_var", "downsample_bn_4.running_var"):
        norm, kind = name.split(".running_")
        close(BLOCKS, f"ds_trainBN_state/{name}", after[norm.replace("_4", "_0")][kind])
    others = [norm for norm in before if not norm.endswith("_0")]
    assert len(others) == 8
    for norm in others:
        assert np.array_equal(after[norm]["mean"], before[norm]["mean"])


@functools.cache
def small():
    return fluxjax.load_torch("ffn", SMALL.params)


@functools.cache
def forward(branch):
    model, _ = small()
    return jax.jit(lambda v, x: model.apply(v, x, branch))


@pytest.mark.parametrize(
    "output, frames, branch",
    [
        ("logits_T2_branchL", 2, None),
        ("logits_T7_branchM", 7, None),
        ("logits_T12_branchH", 12, None),
        ("logits_T8_forced_L", 8, 0),
        ("logits_T8_forced_M", 8, 1),
        ("logits_T8_forced_H", 8, 2),
    ],
)
def test_any_frame_number_and_any_branch(output, frames, branch):
    video = channels_last(SMALL.inputs["video"])[:1, :frames]
    close(SMALL, output, forward(branch)(small()[1], video), rows=1)


def test_the_features_of_stages():
    model, variables = small()
    video = channels_last(SMALL.inputs["video"])[:1, :8]
    _, seen = jax.jit(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"])
    )(variables, video)
    last = ("layer1_block0", "layer2_block1", "layer3_block0", "layer4_block0")
    for stage, name in enumerate(last, start=1):
        (found,) = seen["intermediates"][name]["__call__"]
        close(SMALL, f"T8_layer{stage}_gap", np.mean(found, axis=(1, 2))[None], rows=1)


@pytest.mark.parametrize(
    "name, clips, segments", [("leak_L", 4, 16), ("leak_M", 2, 16), ("fixed_L", 4, 4)]
)
def test_training_s_shift_with_the_kept_statistics(name, clips, segments):
    model, variables = small()
    branch = BRANCH[name[-1]]
    video = channels_last(SMALL.inputs["video"])[:clips, : FRAMES[branch]]
    logits, _ = jax.jit(
        lambda v, x: model.apply(v, x, branch, segments, method="frame_logits"),
    )(variables, video)
    close(SMALL, f"trainpath_{name}", jnp.mean(logits, axis=1), rows=clips)


@pytest.mark.parametrize("names", ["M8_L4", "M8_L2", "M10_L4", "M6_L4", "M12_L6"])
def test_the_nearest_branch(names):
    middle, low = (int(part[1:]) for part in names.split("_"))
    found = [LABELS[nearest_branch(n, (low, middle, 16))] for n in RULE.inputs["frames"]]
    assert found == RULE.outputs[f"branch_{names}"].tolist()


def distillation(logits, labels):
    """The official loss of [low, middle, high] logits."""
    target = jax.lax.stop_gradient(jax.nn.log_softmax(logits[2]))
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits[2], labels))
    for student in logits[:2]:
        divergence = jnp.exp(target) * (target - jax.nn.log_softmax(student))
        loss += jnp.mean(jnp.sum(divergence, axis=-1))
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("shift, name", [("leak", "leak"), ("clip", "fixed")])
def test_logits_gradients_and_statistics_of_a_training_step(shift, name):
    model, variables = fluxjax.load_torch("ffn", STEP.params, shift=shift)
    assert model.dropout == 0  # its classifier has the name of one without
    video = channels_last(STEP.inputs["video"])
    clips = [video[:, 24:], video[:, 16:24], video[:, :16]]  # stored from high to low

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def step(params, stats):
        logits = []
        for clip in clips:
            found, changed = model.apply(
                {"params": params, "batch_stats": stats}, clip, train=True, mutable=["batch_stats"]
            )
            stats = changed["batch_stats"]
            logits.append(found)
        return distillation(logits, STEP.inputs["label"]), (logits, stats)

    grads, (logits, stats) = step(variables["params"], variables["batch_stats"])
    for branch, found in zip("LMH", logits, strict=True):
        close(STEP, f"{name}/logits_{branch}", found)
    grads = fluxjax.to_torch(model, {"params": grads, "batch_stats": stats})
    checked = 0
    for output in STEP.outputs:
        kind, _, parameter = output.removeprefix(f"{name}/").partition("/")
        if output.startswith(f"{name}/") and kind in ("grad", "state"):
            close(STEP, output, grads[parameter], tolerance=(2e-4, 2e-3))
            checked += 1
    assert checked == 17


def test_official_names_come_back_as_they_were():
    names = {n for n in SMALL.params if not n.endswith("num_batches_tracked")}
    state = fluxjax.to_torch(*small())
    assert set(state) == names
    assert all(np.array_equal(state[name], SMALL.params[name]) for name in names)
