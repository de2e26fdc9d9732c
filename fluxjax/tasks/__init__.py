"""A file per objective; `create_task` builds them by the config's `task`."""

from fluxjax.tasks.base import Task
from fluxjax.tasks.registry import create_task, list_tasks, register_task, task_for, task_keys

__all__ = ["Task", "create_task", "list_tasks", "register_task", "task_for", "task_keys"]
