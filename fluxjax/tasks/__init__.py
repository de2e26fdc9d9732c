"""A file per objective; `create_task` builds them by the config's `task`."""

from ml_collections import ConfigDict

from fluxjax.tasks.base import Task
from fluxjax.tasks.classify import ClassifyTask
from fluxjax.tasks.classify_features import ClassifyFeaturesTask

TASKS = {"classify": ClassifyTask, "classify_features": ClassifyFeaturesTask}


def create_task(config: ConfigDict) -> Task:
    """Builds the task that `config.task` names.

    Raises:
      ValueError: on an unknown task.
    """
    if config.task not in TASKS:
        raise ValueError(f"unknown task {config.task!r}; known: {sorted(TASKS)}")
    return TASKS[config.task](config)


__all__ = ["TASKS", "Task", "create_task"]
