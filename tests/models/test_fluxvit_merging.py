"""Token merging inside FluxViT, alone and after selection."""

import functools

import jax
import numpy as np
import pytest

import fluxjax
from tests.models.test_fluxvit import clip, dense, model_and_variables

GRIDS = [(8, 2, 2), (3, 2, 3)]


@functools.cache
def jitted(budget, schedule):
    model, _ = model_and_variables()
    return jax.jit(
        lambda v, x: model.apply(v, x, budget, merge=schedule, mutable=["intermediates"])
    )


def logits(video, budget, schedule):
    return jitted(budget, schedule)(model_and_variables()[1], video)[0]


@pytest.mark.parametrize(
    ("budget", "schedule"), [pytest.param(None, (0.25, 3), marks=pytest.mark.slow), (12, (4,))]
)
def test_packed_batch_of_mixed_grids_equals_each_clip_dense(budget, schedule):
    clips = [clip(grid) for grid in GRIDS]
    packed = logits(fluxjax.pack(clips, max_tokens=40), budget, schedule)
    for row, one in zip(packed, clips, strict=True):
        np.testing.assert_allclose(
            row, logits(dense(one), budget, schedule)[0], rtol=1e-4, atol=1e-4
        )
    unmerged = logits(fluxjax.pack(clips, max_tokens=40), budget, ())
    assert np.abs(packed - unmerged).max() > 1e-2, "merging changes nothing"


def test_tokens_that_are_left():
    """Every token is still part of one; cls is first and alone; counts follow the schedule."""
    _, variables = model_and_variables()
    _, collected = jitted(24, (6, 0.5))(variables, dense(clip((8, 2, 3))))
    first, second = (collected["intermediates"][f"blocks_{i}"]["assignment"][0][0] for i in (0, 1))
    assert first.shape == (25,) and second.shape == (19,)
    assert set(first.tolist()) == set(range(19)) and set(second.tolist()) == set(range(10))
    for assignment in (first, second):
        assert assignment[0] == 0 and np.count_nonzero(assignment == 0) == 1


def test_no_merging_is_the_plain_model_and_wrong_schedules_are_errors():
    model, variables = model_and_variables()
    video = dense(clip((4, 2, 2)))
    np.testing.assert_array_equal(logits(video, 12, (0, 0.0)), logits(video, 12, ()))
    with pytest.raises(ValueError, match="longer than the 2 blocks"):
        model.apply(variables, video, merge=(1, 1, 1))
