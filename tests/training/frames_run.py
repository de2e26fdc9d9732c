"""Trains a small frame flexible network: `-m tests.training.frames_run WORKDIR STEPS MODEL`."""

import sys
import time

import jax
import numpy as np

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks import create_task
from fluxjax.training import loop
from tests.tasks import ffn_toy  # noqa: F401  registers the models
from tests.tasks.test_frame_flexible import config_for


def config_of(steps, model="toy_frames"):
    """Momentum SGD at three frame numbers, a checkpoint every 2 steps."""
    config = config_for(model)
    config.total_steps, config.checkpoint.every_steps, config.log_every = steps, 2, 1
    config.batch_size = 16
    config.optim.update({"name": "sgd", "lr": 1.6, "warmup_steps": 0, "schedule": "steps"})
    config.optim.decay_steps = (3,)
    config.mixing.prob = 1.0
    return config


def one_device():
    """A mesh of the first device."""
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))


def batches(task, first):
    """Host batches, each a function of its step."""
    for step in range(first, task.config.total_steps):
        rng = np.random.default_rng(step)
        batch = {
            name: rng.integers(0, 256, spec.shape).astype(spec.dtype)
            for name, spec in task.batch_spec(task.config.batch_size).items()
        }
        batch["label"] %= 4
        yield batch | {"example": np.arange(len(batch["label"]))}


def run(config, workdir, mesh=None, after_step=lambda step: None):
    """The final state and the loss of every step."""
    task = create_task(config)
    trainer, losses = loop.Trainer.create(task, mesh), []

    def report(step, line, scalars):
        losses.append(scalars["loss"])
        after_step(step)

    with Checkpoints(workdir, keep=2) as checkpoints:
        state = loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
    return state, losses


if __name__ == "__main__":

    def slowly(step):
        print(step, flush=True)
        time.sleep(0.2)  # so that a kill finds it between two steps

    run(config_of(int(sys.argv[2]), sys.argv[3]), sys.argv[1], one_device(), slowly)
