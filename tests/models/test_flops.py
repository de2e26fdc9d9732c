"""The compute that the papers print, counted by XLA."""

import jax
import jax.numpy as jnp
import pytest

from fluxjax.config.keys import base_config
from fluxjax.evaluation.compute import forward_gmacs, wilson_interval
from fluxjax.models import attention
from fluxjax.models.attention_choice import Place
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from fluxjax.training.flops import count_flops


def gmacs(name, grid, budget=None):
    config = base_config(name)
    config.num_classes = 400
    if "fluxvit" not in name:
        config.method, config.budgets, config.grids.min_tokens = "cross_entropy", (), 1
        config.grids.frames, config.grids.resolutions = (1,), (224,)
        config.grids.max_tokens, config.eval.grids = 1000, (str(grid),)
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


def test_kernels_of_accelerators_do_not_change_the_count(monkeypatch):
    here = gmacs("fluxvit_ti14", Grid(12, 112))
    monkeypatch.setattr(attention, "place_of_tracing", lambda: Place("tpu"))
    assert gmacs("fluxvit_ti14", Grid(12, 112)) == here


def test_wilson_interval():
    low, high = wilson_interval(50, 100)
    assert (low, high) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("count", range(1, 200))
def test_the_share_lies_in_its_interval(count):
    for hits in (0, count):
        low, high = wilson_interval(hits, count)
        assert 0 <= low <= hits / count <= high <= 1
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_every_turn_of_a_loop_counts():
    x, w = jnp.ones((4, 8)), jnp.ones((8, 8))

    def loop(x, w):
        def turn(x, _):
            inner = jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=3)[0]
            return jax.nn.relu(inner @ w), None

        return jax.lax.scan(jax.checkpoint(turn), x, None, length=5)[0]

    counted = count_flops(jax.make_jaxpr(loop)(x, w))
    assert counted == pytest.approx(5 * 4 * 2 * 4 * 8 * 8, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "grid", "tower", "decoder"),
    # The tower: 17.58 G a frame of B/16, the published ViT-B/16 at 224 pixels.
    [("evl_b16", Grid(8, 224), 8 * 17.58, 5.0)],
)
def test_evl_costs_little_more_than_its_tower(name, grid, tower, decoder):
    total = gmacs(name, grid)
    assert tower < total < tower * 1.02 + decoder
    assert gmacs(name, grid, 784) < 0.6 * total, "half the tokens do not make the tower cheaper"
