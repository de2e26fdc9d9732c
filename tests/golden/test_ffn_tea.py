"""TEA, frame flexible, against the official code: temporal convolution and blocks.

v07 is cut to the low branch and one clip.
"""

import jax
import numpy as np
import pytest

from fluxjax.convert.ffn_2d_rows import BlockSizes, shortcut_rows, tea_rows
from fluxjax.convert.mapping import to_variables
from fluxjax.models.frame_flexible.tea import Bottle2neck, TemporalConv
from tests.golden import fixture

SHIFT, TEA = fixture("ffn", "v01"), fixture("ffn", "v07")


def channels_last(x):
    return np.moveaxis(x, -3, -1)


@pytest.mark.parametrize("name, width", [("c8_L", 8), ("c12_L", 12), ("c12_M", 12)])
def test_temporal_convolution(name, width):
    weight = SHIFT.params[f"tea_shift_c{width}.conv.weight"]
    frames = {"L": 4, "M": 8}[name[-1]]
    x = channels_last(SHIFT.inputs[f"tea_{name}"])
    out = TemporalConv().apply({"params": {"kernel": weight[:, 0].T}}, x, frames)
    expected = channels_last(SHIFT.outputs[f"tea_{name}"])
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name, x", [("stage", "x_L"), ("normal", "xn_L")])
def test_blocks(name, x):
    first, x = name == "stage", channels_last(TEA.inputs[x])
    width = TEA.meta["config"]["planes"]
    sizes = BlockSizes(name, "block", x.shape[-1], width, first)
    rows = tea_rows(sizes, None, (4,))
    if first:
        rows += shortcut_rows(sizes, 4 * width, (4,))
    own = {n: v for n, v in TEA.params.items() if n.startswith(f"{name}.")}
    variables = {kind: tree["block"] for kind, tree in to_variables(own, rows, name).items()}
    model = Bottle2neck(width, 2 if first else 1, shortcut=first, first=first)
    out = jax.jit(lambda v, x: model.apply(v, x, 0, 4))(variables, x)
    expected = channels_last(TEA.outputs[f"{name}_L"])
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
