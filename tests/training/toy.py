"""A trainer that costs nothing: its state counts steps and its batches can be made to hang."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.training import loop, mesh
from fluxjax.training.nonfinite import FINITE, FIRST_BAD
from fluxjax.training.state import TrainState
from tests import tiny

PARAMS = {"bias": jnp.zeros(2), "kernel": jnp.zeros((3, 2))}


class ToyTrainer:
    """What `loop.train` needs of a trainer. `bad` steps report non-finite numbers."""

    def __init__(self, total_steps=6, every=100, bad=(), devices=1, **config):
        self.bad = tuple(bad)
        settings = tiny.get_config()
        settings.total_steps, settings.checkpoint.every_steps = total_steps, every
        settings.log_every = 100
        settings.update(config)
        spec = {"label": jax.ShapeDtypeStruct((settings.batch_size,), jnp.int32)}
        self.task = types.SimpleNamespace(config=settings, batch_spec=lambda size: spec)
        self.mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",))
        self.abstract_state = mesh.abstract(self.initial_state(), mesh.replicated(self.mesh))

    step_constants = ()

    def initial_state(self):
        none = {"frozen": {}, "mutable": {}, "opt_state": (), "ema": None}
        return TrainState(step=jnp.zeros((), jnp.int32), params=PARAMS, **none)

    def compile_steps(self):
        bad = jnp.asarray(self.bad or (-1,))
        everywhere = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())

        @functools.partial(jax.jit, out_shardings=everywhere)
        def step(state, batch):
            finite = ~jnp.any(bad == state.step + 1)
            loss = jnp.where(finite, 1.0, jnp.nan)
            params = jax.tree.map(lambda x: x + jnp.mean(batch["label"]), state.params)
            metrics = {"loss": loss, FINITE: finite, FIRST_BAD: jnp.where(finite, -1, 1)}
            return state.replace(step=state.step + 1, params=params), metrics

        return [step]

    def batches(self, first, before=lambda step: None):
        """Host batches whose examples tell the step; `before` is called ahead of each."""
        config = self.task.config
        for step in range(first, config.total_steps):
            before(step)
            rows = np.arange(config.batch_size)
            yield {
                "label": np.full(config.batch_size, step, np.int32),
                "example": rows + 100 * step,
                "grid": np.tile(np.int32([2, 1, 1]), (config.batch_size, 1)),
            }


def train(trainer, checkpoints, *, before=lambda step: None, evaluate=None, stop=None):
    """`loop.train` of a toy; returns its state."""
    ignore = lambda step, line, scalars: None  # noqa: E731
    batches = lambda first: trainer.batches(first, before)  # noqa: E731
    return loop.train(trainer, batches, checkpoints, ignore, evaluate, stop)
