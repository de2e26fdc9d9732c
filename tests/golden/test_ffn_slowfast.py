"""SlowFast, frame flexible, against the official code.

The repository's copy of v06 has the first clip, the branches L and M, and the stages s1 and s2.
"""

import functools

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.ffn_rows import labels_in
from fluxjax.models.frame_flexible.slowfast_stages import slow_frames
from tests.golden import fixture, traced


@functools.cache
def small():
    """The network of v06; without the classifier where the file has none."""
    case = fixture("ffn", "v06")
    config = case.meta["config"]
    frames = list(config["frames"].values())[: len(labels_in(case.params))]
    head = {}
    if "head.projection.weight" not in case.params:
        head = {"num_classes": config["num_class"], "head_key": jax.random.key(0)}
    model, variables = fluxjax.load_torch(
        "ffn", case.params, frames=frames, alpha=config["alpha"], **head
    )
    assert (model.width, model.beta_inv) == (config["width"], config["beta_inv"])
    return model, variables


def output_of(calls, name):
    """Our output for an output such as L_s2_fuse_fast_gap."""
    _, stage, *rest = name.removesuffix("_gap").split("_")
    pathway = rest[-1]
    if rest[0] == "fuse" and pathway == "slow":
        return calls[f"{stage}_fuse"][1]
    block = "" if stage == "s1" else "_res1"
    return calls[f"{stage}_{pathway}{block}"][1]


@pytest.mark.parametrize("letter", "LMH")
def test_a_branch(letter):
    case = fixture("ffn", "v06")
    outputs = [name for name in case.outputs if name.startswith(f"{letter}_s")]
    if not outputs:
        pytest.skip(f"the repository's copy of v06 has not the branch {letter}")
    model, variables = small()
    logits, calls = traced(model, variables, np.moveaxis(case.inputs[f"fast_{letter}"], 1, -1))
    for name in outputs:
        out = np.moveaxis(np.asarray(output_of(calls, name)), -1, 1)
        case.check(name, out.mean(axis=(3, 4)) if name.endswith("_gap") else out)
    if f"logits_{letter}" in case.outputs:
        case.check(f"logits_{letter}", logits)
        case.check(f"probs_{letter}", jax.nn.softmax(logits))


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
