"""TEA, frame flexible, against the official code: temporal convolution, motion, blocks.

The repository's copies have the low branch alone, of v07 one clip through the first block.
"""

import jax
import numpy as np
import pytest

from fluxjax.convert.ffn_2d_rows import BlockSizes, motion_rows, shortcut_rows, tea_rows
from fluxjax.convert.ffn_rows import labels_in
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.tea import Bottle2neck, MotionExcitation, TemporalConv
from tests.golden import fixture

FRAMES = {"L": 4, "M": 8, "H": 16}


def channels_last(x):
    return np.moveaxis(x, -3, -1)


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, -3)


def test_temporal_convolution():
    case = fixture("ffn", "v01")
    names = [name for name in case.inputs if name.startswith("tea_")]
    assert names
    for name in names:
        _, width, letter = name.split("_")
        weight = case.params[f"tea_shift_{width}.conv.weight"]
        x = channels_last(case.inputs[name])
        out = TemporalConv().apply({"params": {"kernel": weight[:, 0].T}}, x, FRAMES[letter])
        case.check(name, channels_first(out), "tea")


def part(name):
    """A module of v07 and its variables."""
    case = fixture("ffn", "v07")
    config = case.meta["config"]
    own = {n: v for n, v in case.params.items() if n.startswith(f"{name}.")}
    labels = labels_in(own)
    shared = {"branches": len(labels)}
    if name == "me":
        module, rows = MotionExcitation(**shared), motion_rows("me", "me", 64, labels)
        return module, {kind: tree["me"] for kind, tree in to_variables(own, rows, name).items()}
    first, width = name == "stage", config["planes"]
    stride = config["stride"] if first else 1
    module = Bottle2neck(width=width, stride=stride, shortcut=first, first=first, **shared)
    width_in = config["inplanes"] if first else 4 * width
    sizes = BlockSizes(name, "block", width_in, width, first)
    rows = tea_rows(sizes, None, labels)
    if first:
        rows += shortcut_rows(sizes, 4 * width, labels)
    return module, {kind: tree["block"] for kind, tree in to_variables(own, rows, name).items()}


@pytest.mark.parametrize("name, given", [("me", "me"), ("stage", "x"), ("normal", "xn")])
def test_parts(name, given):
    case = fixture("ffn", "v07")
    letters = [letter for letter in FRAMES if f"{name}_{letter}" in case.outputs]
    if not letters:
        pytest.skip(f"the repository's copy of v07 has no {name!r}")
    module, variables = part(name)
    for branch, letter in enumerate(letters):
        x = channels_last(case.inputs[f"{given}_{letter}"])
        out = jax.jit(lambda v, x, i=branch, n=FRAMES[letter]: module.apply(v, x, i, n))(
            variables, x
        )
        case.check(f"{name}_{letter}", channels_first(out))
