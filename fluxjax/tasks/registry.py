"""Names of tasks. A task of one's own is registered by a module that `config.imports` names."""

from collections.abc import Callable

import flax.linen as nn
from ml_collections import ConfigDict

from fluxjax.models.registry import takes_patches
from fluxjax.tasks.base import Task
from fluxjax.tasks.classify import ClassifyTask
from fluxjax.tasks.classify_dense import ClassifyDenseTask
from fluxjax.tasks.classify_features import ClassifyFeaturesTask
from fluxjax.tasks.contrast import ContrastTask
from fluxjax.tasks.contrast import keys as contrast_keys
from fluxjax.tasks.distill import DistillTask
from fluxjax.tasks.distill_keys import distill_keys
from fluxjax.tasks.frame_flexible import FrameFlexibleTask, frame_flexible_keys
from fluxjax.tasks.reconstruct import ReconstructTask
from fluxjax.tasks.reconstruct import keys as reconstruct_keys
from fluxjax.tasks.retrieve import RetrieveTask
from fluxjax.tasks.retrieve import keys as retrieve_keys


def _classify(config: ConfigDict) -> Task:
    """Classification of clips as the model takes them: packed patches, or dense frames."""
    kind = ClassifyTask if takes_patches(config.model.name) else ClassifyDenseTask
    return kind(config)


_TASKS: dict[str, Callable[[ConfigDict], Task]] = {
    "classify": _classify,
    "classify_features": ClassifyFeaturesTask,
    "contrast": ContrastTask,
    "distill": DistillTask,
    "frame_flexible": FrameFlexibleTask,
    "reconstruct": ReconstructTask,
    "retrieve": RetrieveTask,
}
_KEYS: dict[str, Callable[[], ConfigDict]] = {
    "contrast": contrast_keys,
    "distill": distill_keys,
    "frame_flexible": frame_flexible_keys,
    "reconstruct": reconstruct_keys,
    "retrieve": retrieve_keys,
}


def register_task(
    name: str,
    task: Callable[[ConfigDict], Task],
    keys: Callable[[], ConfigDict] | None = None,
) -> None:
    """Makes `config.task = name` build `task(config)`.

    Args:
      name: of the task.
      task: the class, or any function of a config.
      keys: gives the config keys that only this task has, with their defaults; they are
        `config.<name>`.

    Raises:
      ValueError: if the name is another task's.
    """
    if _TASKS.get(name, task) is not task:
        raise ValueError(f"there is a task {name!r} already")
    _TASKS[name] = task
    if keys is not None:
        _KEYS[name] = keys


def list_tasks() -> list[str]:
    """Names that `config.task` may have, sorted."""
    return sorted(_TASKS)


def task_keys(name: str) -> ConfigDict | None:
    """A task's own config keys with their defaults; None where it has none.

    Raises:
      ValueError: on an unknown task.
    """
    _known(name)
    return _KEYS[name]() if name in _KEYS else None


def task_for(model: nn.Module) -> str:
    """The task that runs a model of which no run's config is known: one that says so, or classify.

    Such a task has the static method `runs(model)`.
    """
    for name, kind in _TASKS.items():
        if hasattr(kind, "runs") and kind.runs(model):
            return name
    return "classify"


def create_task(config: ConfigDict) -> Task:
    """Builds the task that `config.task` names.

    Raises:
      ValueError: on an unknown task.
    """
    return _known(config.task)(config)


def _known(name: str) -> Callable[[ConfigDict], Task]:
    if name not in _TASKS:
        raise ValueError(
            f"unknown task {name!r}; known: {list_tasks()}. A task of your own: name the module "
            "that registers it in config.imports"
        )
    return _TASKS[name]
