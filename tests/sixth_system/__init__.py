"""A sixth system, outside of the library: a model, a task and a config; registered by import."""

from fluxjax.models import register_model
from fluxjax.tasks import register_task
from tests.sixth_system.model import TwoClips
from tests.sixth_system.task import MatchTask, keys

register_model("two_clips_ti", TwoClips, width=16)
register_task("match", MatchTask, keys)
