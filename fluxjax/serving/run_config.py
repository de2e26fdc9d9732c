"""The config that a checkpoint is evaluated with: its run's, or one made from its architecture."""

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from fluxjax.config import stored
from fluxjax.config.keys import base_config
from fluxjax.config.ranges import get
from fluxjax.models.registry import list_models, model_class, model_fields
from fluxjax.serving.checkpoint import CONFIG, Checkpoint
from fluxjax.tasks import task_for
from fluxjax.tokens.grids import parse_grid
from fluxjax.training.workdir import MODEL, PRETRAIN

# Option -> key of the config; what is not given stays the run's.
_OPTIONS = {
    "data": "data.test",
    "split": "data.test_split",
    "data_dir": "data.dir",
    "root": "data.root",
    "separator": "data.separator",
    "sampling": "data.sampling",
    "workers": "data.workers",
    "max_bad_share": "data.max_bad_share",
    "clips": "eval.clips",
    "crops": "eval.crops",
    "batch_size": "eval.batch_size",
    "dual_softmax": "eval.dual_softmax",
}


def config_of(checkpoint: Checkpoint, recipe: ConfigDict | None = None) -> ConfigDict:
    """The resolved config of the checkpoint's run, or a new one around its model.

    Args:
      checkpoint: to be evaluated.
      recipe: a config to put in the place of the run's; its model gets the checkpoint's sizes.

    Raises:
      ValueError: if the run's config cannot be read, no model name is known for the class, or the
        recipe is of another.
    """
    if recipe is not None:
        config = _with_fields(recipe, checkpoint)
    elif checkpoint.run is not None:
        config = stored.get_config(str(checkpoint.run / CONFIG))
    else:
        config = _around(checkpoint)
    if config.pretrain is not None and get(config, config.pretrain_for) is None:
        first = str(checkpoint.run / PRETRAIN / MODEL)  # such as the teacher that it was trained by
        config.update_from_flattened_dict({config.pretrain_for: first})
    config.num_classes = checkpoint.model.num_classes
    config.init_from, config.pretrain = str(checkpoint.folder), None
    return config


def _around(checkpoint: Checkpoint) -> ConfigDict:
    """A config whose model has the checkpoint's fields, of the task that runs such a model."""
    model = checkpoint.model
    name = next((name for name in list_models() if model_class(name) is type(model)), None)
    if name is None:
        raise ValueError(f"{checkpoint.folder} holds a {type(model).__name__}, which has no name")
    config = _with_fields(base_config(name, task_for(model)), checkpoint)
    config.model.dtype = np.dtype(model.dtype).name
    budgets = getattr(model, "budgets", None)
    config.budgets = tuple(budgets or ())
    config.method = "flux_multi" if budgets else "cross_entropy"
    usage, evaluation = checkpoint.usage, config.eval
    evaluation.budgets = config.budgets
    evaluate_on(config, checkpoint, ())
    if usage is not None:
        config.data.sampling = usage.sampling
        config.data.square_pixels = usage.square_pixels
        evaluation.budgets = usage.budgets
        evaluate_on(config, checkpoint, usage.grids)
        evaluation.clips, evaluation.crops = usage.clips, usage.crops
        evaluation.crop_share, evaluation.crop_place = usage.crop_share, usage.crop_place
    config.data.train = config.data.test = ""
    return config


def _with_fields(config: ConfigDict, checkpoint: Checkpoint) -> ConfigDict:
    """A config whose model has the sizes of the checkpoint's; the dtype stays."""
    model, name = checkpoint.model, config.model.name
    if model_class(name) is not type(model):
        raise ValueError(
            f"{checkpoint.folder} holds a {type(model).__name__}, the config is of {name}; give "
            "another --config"
        )
    own = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    for field in model_fields(name):
        if field in config.model and field != "dtype" and own[field] is not None:
            config.model[field] = own[field]
    return config


def evaluate_on(config: ConfigDict, checkpoint: Checkpoint, grids: Sequence[str]) -> None:
    """Sets the grids of the evaluation; without a run, which trains nothing, the first is its own.

    Raises:
      ValueError: on a text that is no grid.
    """
    parsed = [parse_grid(text) for text in grids]
    config.eval.grids = tuple(map(str, parsed))
    if checkpoint.run is not None or not parsed:
        return
    frames, side = parsed[0]
    config.grids.frames, config.grids.resolutions = (frames,), (side,)
    config.grids.min_tokens, config.grids.max_tokens = 1, frames * side**2
    usage = checkpoint.usage
    if not config.budgets and not (usage and usage.budgets):  # nobody named any: all tokens
        patch = getattr(checkpoint.model, "patch", 1)
        config.eval.budgets = (max(grid.tokens(patch) for grid in parsed),)


def set_options(config: ConfigDict, options: argparse.Namespace) -> None:
    """Puts a command's options on data and views into a config; what was not given stays."""
    for option, key in _OPTIONS.items():
        value = getattr(options, option, None)
        if value is not None:
            section, name = key.split(".")
            config[section][name] = value
    if options.data is not None:
        config.data.manifests = ()  # of the run's own videos


def set_vocabulary(config: ConfigDict, vocabulary: str) -> None:
    """Puts the path of a vocabulary where the config's task has it.

    Raises:
      ValueError: if the task reads no text.
    """
    own = config.get(config.task)
    if own is None or "vocabulary" not in own:
        raise ValueError(
            f"--vocabulary={vocabulary} has no meaning for a model of task {config.task!r}, which "
            "reads no text"
        )
    own.vocabulary = vocabulary
