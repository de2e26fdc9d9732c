"""The average's weights against their closed forms; in the trainer, see also test_loop.py."""

import math

import jax
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks import create_task
from fluxjax.training import loop
from fluxjax.training.averaging import initial_share, replaced_share
from tests import tiny
from tests.training.test_loop import batches


def optim(ema, warmup=True):
    config = tiny.get_config().optim
    config.ema, config.ema_warmup = ema, warmup
    return config


def test_decays():
    decays = 1 - np.asarray(replaced_share(optim(0.9), np.arange(100)))
    np.testing.assert_allclose(decays[[0, 1, 8, 79]], [1 / 10, 2 / 11, 9 / 18, 80 / 89], rtol=1e-6)
    np.testing.assert_allclose(decays[80:], 0.9, rtol=1e-6)  # (1 + 80) / (10 + 80)
    constant = replaced_share(optim(0.9999, warmup=False), np.arange(3))
    np.testing.assert_allclose(constant, 1e-4, rtol=1e-6)


@pytest.mark.parametrize("updates", [1, 4, 150])
def test_share_of_the_initial_weights(updates):
    """n! 9! / (n + 9)! with warm-up, decay^n without: 98.5 % after 150 updates at 0.9999."""
    warm = initial_share(optim(0.9999), 0, updates)
    assert warm == pytest.approx(1 / math.comb(updates + 9, 9), rel=1e-4)
    cold = initial_share(optim(0.9999, warmup=False), 0, updates)
    assert cold == pytest.approx(0.9999**updates, rel=1e-5)
    assert initial_share(optim(0.9999), updates, updates) == 1


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trainers_average_is_the_sum_that_the_decays_make(tmp_path, accumulate):
    """With 0.9999 over six updates, resumed in the middle (of an update, where they accumulate)."""
    config = tiny.get_config()
    config.optim.ema, config.optim.lr = 0.9999, 1.0
    config.optim.accumulate_steps, config.checkpoint.every_steps = accumulate, 3
    config.total_steps, config.optim.warmup_steps = 6 * accumulate, 0
    trainer = loop.Trainer.create(create_task(config))
    (program,), history = trainer.compile_steps(), []
    expected = initial = jax.device_get(trainer.initial_state().params)
    compiled = lambda state, batch: noted(program, state, batch, history)  # noqa: E731
    trainer.compile_steps = lambda: [compiled]
    for last in (3, 6 * accumulate):
        config.total_steps = last
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            state = loop.train(trainer, lambda step: batches(trainer.task, step), checkpoints,
                               lambda step, line, scalars: None)  # fmt: skip
    assert len(history) == 6 * accumulate
    for number, params in enumerate(history[accumulate - 1 :: accumulate]):
        decay = (1 + number) / (10 + number)
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, expected, params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), state.ema, expected)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), initial, expected)
    assert max(jax.tree.leaves(moved)) > 0.05, "the average still is where it began"


def noted(program, state, batch, history):
    state, metrics = program(state, batch)
    history.append(jax.device_get(state.params))
    return state, metrics
