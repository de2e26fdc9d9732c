"""The config that a checkpoint is evaluated with: its run's, or one made from its architecture."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from fluxjax.config import stored
from fluxjax.config.keys import base_config
from fluxjax.config.ranges import get
from fluxjax.models.registry import list_models, model_class, model_fields
from fluxjax.serving.checkpoint import CONFIG, Checkpoint
from fluxjax.training.workdir import MODEL, PRETRAIN


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
    of_file = checkpoint.folder.is_file()  # official weights, which are no inference checkpoint
    config.init_from, config.pretrain = None if of_file else str(checkpoint.folder), None
    return config


def _around(checkpoint: Checkpoint) -> ConfigDict:
    """A classification config whose model has the checkpoint's fields."""
    model = checkpoint.model
    name = next((name for name in list_models() if model_class(name) is type(model)), None)
    if name is None:
        raise ValueError(f"{checkpoint.folder} holds a {type(model).__name__}, which has no name")
    config = _with_fields(base_config(name), checkpoint)
    config.model.dtype = np.dtype(model.dtype).name
    budgets = getattr(model, "budgets", None)
    config.budgets = tuple(budgets or ())
    config.method = "flux_multi" if budgets else "cross_entropy"
    usage, evaluation = checkpoint.usage, config.eval
    evaluation.budgets, evaluation.grids = config.budgets, ()
    if usage is not None:
        config.data.sampling = usage.sampling
        config.data.square_pixels = usage.square_pixels
        evaluation.budgets, evaluation.grids = usage.budgets, usage.grids
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
