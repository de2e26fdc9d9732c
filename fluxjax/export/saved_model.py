"""A setting as a TensorFlow SavedModel, through jax2tf. Imports TensorFlow."""

import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.experimental import jax2tf

from data_pipelines.quiet_tensorflow import tensorflow
from fluxjax.export.artefacts import PLATFORMS, flat_weights, serving_function
from fluxjax.serving.settings import Setting


def write_saved_model(
    folder: str | os.PathLike, model: nn.Module, variables: Mapping[str, Any], setting: Setting
) -> None:
    """Writes a SavedModel whose signature `serving_default` maps clips to logits.

    Args:
      folder: to write.
      model: with token budgets.
      variables: of the model; they become TensorFlow variables.
      setting: how to run it. Clips are uint8 [B, T, S, S, 3], logits float32 [B, K].
    """
    tf = tensorflow()
    weights = {name: jax.device_get(x) for name, x in flat_weights(variables).items()}
    frames, side = setting.grid
    converted = jax2tf.convert(
        serving_function(model, setting),
        polymorphic_shapes=[None, "(batch, ...)"],
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    module = tf.Module()
    module.weights = {name: tf.Variable(x, name=name) for name, x in weights.items()}

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec((None, frames, side, side, 3), tf.uint8, name="clips")],
    )
    def serve(clips):
        return {"logits": converted(dict(module.weights), clips)}

    module.serve = serve
    tf.saved_model.save(module, os.fspath(folder), signatures={"serving_default": serve})
