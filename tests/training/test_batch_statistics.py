"""Batch statistics: no mesh changes them, and a killed run goes on bit by bit."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import make_mesh
from tests.training.frames_run import config_of, one_device, run

ROOT = pathlib.Path(__file__).parents[2]
MODELS = ["toy_frames", pytest.param("tsm_ti_ffn", marks=pytest.mark.slow)]


@pytest.mark.parametrize("model", MODELS)
def test_the_losses_of_five_steps_and_the_statistics_are_those_of_one_device(tmp_path, model):
    config = config_of(5, model)
    alone, expected = run(config, tmp_path / "one", one_device())
    shared, losses = run(config, tmp_path / "eight", make_mesh({"data": 8}))
    assert len(losses) == 5 and np.ptp(losses) > 0.01
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for found, wanted in zip(
        jax.tree.leaves(jax.device_get(shared.mutable)),
        jax.tree.leaves(jax.device_get(alone.mutable)),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    start = Trainer.create(create_task(config), one_device()).initial_state()
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), jax.device_get(alone.mutable),
                         jax.device_get(start.mutable))  # fmt: skip
    assert min(jax.tree.leaves(moved)) > 0, "a branch's statistics stood still"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["toy_frames", "tsm_ti_ffn"])
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, model):
    killed = str(tmp_path / "killed")
    command = [sys.executable, "-m", "tests.training.frames_run", killed, "7", model]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # as many devices as here: the same sums
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.strip() == "5":
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole, _ = run(config_of(7, model), tmp_path / "whole", one_device())
    with Checkpoints(tmp_path / "killed", keep=2) as checkpoints:
        assert checkpoints.latest_step() in (2, 4)
    resumed, losses = run(config_of(7, model), tmp_path / "killed", one_device())
    assert len(losses) in (3, 5)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))
