"""The model of a run that is under way, or was stopped: its newest checkpoint."""

import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from fluxjax.checkpoints.newest import read_newest
from fluxjax.config import stored
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import AXES


class UnderWay(NamedTuple):
    """What such a run has so far.

    Attributes:
      model, variables: to evaluate: the moving average where the run keeps one.
      step: of the checkpoint.
      labels: name of each class, where the run's config says them.
    """

    model: nn.Module
    variables: dict[str, Any]
    step: int
    labels: tuple[str, ...] | None


def newest_of(run: pathlib.Path, config_path: pathlib.Path) -> UnderWay:
    """Reads a run's newest checkpoint, on one device; the run goes on undisturbed.

    Raises:
      FileNotFoundError: if it has none yet.
      ValueError: if its config cannot be read.
    """
    config = stored.get_config(str(config_path))
    config.init_from = config.pretrain = None  # what it started from may be gone
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape((1,) * len(AXES)), AXES)
    trainer = Trainer.create(create_task(config), mesh)
    step, state = read_newest(run, trainer.abstract_state)
    variables = jax.device_get(state.eval_variables())
    return UnderWay(trainer.task.model, variables, step, tuple(config.data.class_names) or None)
