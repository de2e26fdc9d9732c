"""SlowFast, frame flexible, against the official code.

v06 is cut to the low branch of the first clip and to its stages s1 to s3.
"""

import functools

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.models.frame_flexible.slowfast_stages import slow_frames
from tests.golden import fixture, traced

SMALL = fixture("ffn", "v06")


@functools.cache
def run():
    """The low branch: each part's output."""
    config = SMALL.meta["config"]
    model, variables = fluxjax.load_torch(
        "ffn", SMALL.params, frames=tuple(config["frames"].values()), alpha=config["alpha"],
        num_classes=config["num_class"], head_key=jax.random.key(0),
    )  # fmt: skip
    assert (model.width, model.beta_inv) == (config["width"], config["beta_inv"])
    video = np.moveaxis(SMALL.inputs["fast_L"], 1, -1)
    return {name: call[1] for name, call in traced(model, variables, video)[1].items()}


def output_of(name):
    """Our output for an output such as L_s2_fuse_fast_gap."""
    _, stage, *rest = name.removesuffix("_gap").split("_")
    pathway = rest[-1]
    if rest[0] == "fuse" and pathway == "slow":
        return run()[f"{stage}_fuse"]
    block = "" if stage == "s1" else "_res1"
    return run()[f"{stage}_{pathway}{block}"]


@pytest.mark.parametrize("name", sorted(n for n in SMALL.outputs if n.startswith("L_s")))
def test_a_stage(name):
    out = np.moveaxis(np.asarray(output_of(name)), -1, 1)
    out = out.mean(axis=(3, 4)) if name.endswith("_gap") else out
    tolerances = SMALL.meta["suggested_rtol"], SMALL.meta["suggested_atol"]
    np.testing.assert_allclose(out, SMALL.outputs[name], *tolerances)


# Of v10, slow_index: torch.linspace(0, T - 1, T // 4) rounded down.
@pytest.mark.parametrize(
    "frames, expected",
    [
        (16, [0, 5, 10, 15]),
        (28, [0, 4, 9, 13, 18, 22, 27]),
        (32, [0, 4, 8, 13, 17, 22, 26, 31]),
        (64, [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]),
        (112, [0, 4, 8, 12, 16, 20, 24, 28, 32, 37, 41, 45, 49, 53, 57, 61, 65, 69, 74, 78, 82, 86,
               90, 94, 98, 102, 106, 111]),
        (1, [0]),
        (18, [0, 4, 8, 12, 17]),
    ],
)  # fmt: skip
def test_frames_of_the_slow_pathway(frames, expected):
    assert slow_frames(frames, 4).tolist() == expected
