"""The best model of a run by a scalar of its evaluations: `config.checkpoint.best`."""

import logging
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from fluxjax.checkpoints.inference import read_architecture
from fluxjax.evaluation.registry import scalars_known
from fluxjax.tasks.base import Task

log = logging.getLogger(__name__)


def more_is_better(config: ConfigDict, task: Task) -> bool:
    """Of the scalar that `config.checkpoint.best` names.

    Raises:
      ValueError: if no evaluation of the run has such a scalar; names those there are.
    """
    name, known = config.checkpoint.best, scalars_known(task)
    if not config.data.test:
        raise ValueError(f"config.checkpoint.best={name!r} needs videos to measure: set data.test")
    if name not in known:
        raise ValueError(
            f"config.checkpoint.best={name!r} is no scalar of this run's evaluations; there are "
            f"{', '.join(known)}"
        )
    if config.eval.every_steps == 0:
        raise ValueError(
            f"config.checkpoint.best={name!r} needs evaluations during the training: set "
            "config.eval.every_steps"
        )
    return known[name]


class Best:
    """Offered the scalars of every evaluation, saves the model whenever the chosen one is best.

    A run that is resumed goes on with the best so far: the folder says what was measured of it.
    The first process decides for all.
    """

    def __init__(self, folder: pathlib.Path, name: str, more: bool):
        """Reads what the folder holds.

        Args:
          folder: of the inference checkpoint.
          name: of the scalar.
          more: whether more is better.
        """
        self._name, self._sign = name, 1.0 if more else -1.0
        self._so_far: float | None = None
        if jax.process_index() == 0 and folder.is_dir():
            known = read_architecture(folder)
            self._so_far = known.scores.get(name)
            log.info("the best so far is of step %s: %s=%s", known.step, name, self._so_far)

    def offer(self, step: int, scalars: Mapping[str, float], save: Callable[[], Any]) -> bool:
        """Calls `save`, on all processes, if this evaluation is the best; whether it was.

        A value that is not finite is never the best, nor is one that is only equal.
        """
        value = scalars[self._name]
        better = math.isfinite(value) and (
            self._so_far is None or self._sign * value > self._sign * self._so_far
        )
        if not multihost_utils.broadcast_one_to_all(np.bool_(better)):
            return False
        save()
        self._so_far = value
        log.info("step %d is the best so far: %s=%.4g", step, self._name, value)
        return True
