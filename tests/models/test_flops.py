"""The compute that the papers print, counted by XLA."""

import pytest

from fluxjax.config import base_config
from fluxjax.evaluation.compute import forward_gmacs, wilson_interval
from fluxjax.grids import Grid
from fluxjax.tasks import create_task


def gmacs(name, grid, budget=None):
    config = base_config()
    config.model.name, config.num_classes = name, 400
    return forward_gmacs(create_task(config), grid, budget)


@pytest.mark.parametrize(("frames", "published"), [(12, 153.90), (4, 31.99)])
def test_fluxvit_s_costs_what_the_paper_says(frames, published):
    assert gmacs("fluxvit_s14", Grid(frames, 224)) == pytest.approx(published, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "published"),
    [
        ("fluxvit_s14", 8, 83.28),
        ("fluxvit_s14", 2, 13.59),
        ("fluxvit_b14", 12, 440.12),
        ("fluxvit_b14", 8, 254.79),
        ("fluxvit_b14", 4, 108.12),
        ("fluxvit_b14", 2, 49.28),
    ],
)
def test_the_other_published_figures(name, frames, published):
    assert gmacs(name, Grid(frames, 224)) == pytest.approx(published, rel=0.03)


def test_selection_pays_for_the_whole_grid_once():
    # Specification: 512 tokens picked from 12 x 224^2 cost 14.17 G, those of 2 x 224^2 13.59 G.
    assert gmacs("fluxvit_s14", Grid(12, 224), 512) == pytest.approx(14.17, rel=0.03)


def test_wilson_interval():
    low, high = wilson_interval(50, 100)
    assert (low, high) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)
