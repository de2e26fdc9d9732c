"""SIGKILL at random moments, and inside a save, costs no more than the steps since the last one."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from tests.training import toy

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 40
KILLS = int(os.environ.get("FLUXJAX_KILLS", "4"))


def start(workdir):
    command = [sys.executable, "-m", "tests.training.kill_worker", str(workdir), str(STEPS)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def kill_somewhere(process, workdir, rng, in_save):
    """Kills the run after a random time, or as soon as a checkpoint is half written."""
    process.stdout.readline()  # it is ready: Python and JAX are loaded
    deadline = time.monotonic() + (30 if in_save else rng.uniform(0, 1.5))
    while time.monotonic() < deadline and process.poll() is None:
        if in_save and list((workdir / "checkpoints").glob("saving-*/state*")):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(workdir):
    folder = workdir / "checkpoints"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    rng, half_written = random.Random(0), 0
    for number in range(KILLS):
        process = start(tmp_path)
        kill_somewhere(process, tmp_path, rng, in_save=number % 2 == 0)
        half_written += any(name.startswith("saving-") for name in names(tmp_path))
    assert half_written > 0, "no kill hit a save"
    process = start(tmp_path)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert not [name for name in names(tmp_path) if not name.isdigit()]

    params = {"kernel": jnp.zeros((1 << 10, 1 << 10)), "bias": jnp.zeros(7)}
    monkeypatch.setattr(toy, "PARAMS", params)
    trainer = toy.ToyTrainer(total_steps=STEPS, every=STEPS)
    with Checkpoints(tmp_path / "whole", 1) as checkpoints:
        whole = toy.train(trainer, checkpoints)
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert checkpoints.latest_step() == STEPS
        broken = checkpoints.restore_newest(trainer.abstract_state)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(broken))
    assert float(whole.params["bias"][0]) == sum(range(STEPS))
    print(f"survived {KILLS} kills, {half_written} of them inside a save")


@pytest.mark.slow
def test_another_number_of_devices_reads_the_same_samples(tmp_path):
    seen = {}
    for name, counts in (("whole", (1,)), ("changed", (8, 2))):
        seen[name] = []
        for part, count in enumerate(counts, 1):
            trainer = toy.ToyTrainer(total_steps=6, every=1, devices=count)
            batches = trainer.batches

            def noted(first, before, batches=batches, name=name):
                for batch in batches(first, before):
                    seen[name].append(batch["example"].tolist())
                    yield batch

            trainer.batches = noted
            with Checkpoints(tmp_path / name, 2) as checkpoints:
                if part < len(counts):
                    trainer.task.config.total_steps = 3
                state = toy.train(trainer, checkpoints)
        seen[f"{name} state"] = jax.device_get(state)
    assert seen["whole"] == seen["changed"]
    jax.tree.map(np.testing.assert_array_equal, seen["whole state"], seen["changed state"])
