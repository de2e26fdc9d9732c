"""The model that a config describes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.models import create_model


def model_of(config: ConfigDict, **given: Any) -> nn.Module:
    """The config's model; fields of `config.model` that are None are as the named size has them.

    Args:
      config: uses `model` and `num_classes`.
      **given: fields that the task sets.
    """
    fields = {key: value for key, value in config.model.to_dict().items() if value is not None}
    name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
    return create_model(name, config.num_classes, dtype=dtype, **(fields | given))


def check_classes(config: ConfigDict) -> None:
    """Refuses to classify without classes.

    Raises:
      ValueError: if neither the training data nor the config tell how many there are.
    """
    if config.num_classes is None:
        raise ValueError(
            f"config.data.train={config.data.train!r} has no labels, which "
            f"config.task={config.task!r} learns: name videos with labels"
        )
