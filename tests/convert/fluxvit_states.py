"""Official state dicts of small FluxViTs, and what compares them."""

import numpy as np

from fluxjax.convert import fluxvit
from fluxjax.convert.load import load_torch
from tests.golden import fixture

CASE = fixture("fluxvit", "v02")
SMALL = {"num_heads": 2, "pool_num_heads": 2, "num_frames": 2, "image_size": 28}
TEACHER = fixture("internvideo2", "v01")


def load(state, **changes):
    return load_torch("fluxvit", state, **(CASE.loading | changes))


def random_state(model, seed=0):
    """A complete official state dict of a model, at random."""
    draw = np.random.default_rng(seed)
    rows = fluxvit.rows_of(model)
    return {row.name: draw.standard_normal(row.shape, np.float32) for row in rows}


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
