"""`create_model` with weights: a named model that starts from what somebody has trained."""

import os
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import fluxjax.checkpoints.start_rules  # noqa: F401  (what may start from what)
from fluxjax.checkpoints.inference import load
from fluxjax.checkpoints.starting import start_from
from fluxjax.convert.load import load_torch
from fluxjax.models import registry
from fluxjax.models.avion import Avion
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.evl import Evl
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.pretrained.sources import fetch

_FAMILIES = {
    Avion: "avion", ClipImage: "clip", Evl: "evl", FluxViT: "fluxvit", InternVideo2: "internvideo2",
}  # fmt: skip


def create_model(
    name: str,
    num_classes: int | None | EllipsisType = ...,
    *,
    pretrained: str | os.PathLike | None = None,
    key: jax.Array | None = None,
    weights_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> nn.Module | tuple[nn.Module, dict[str, Any]]:
    """Creates a model by name; with `pretrained` also its variables.

    model = create_model("fluxvit_s14", num_classes=400)
    model, variables = create_model("fluxvit_s14", pretrained="hf:OWNER/REPO/FILE.pth")

    Args:
      name: one of `list_models()`.
      num_classes: size of the classification heads; None: a model without, where it can be. By
        default 400, or with `pretrained` as many as that has.
      pretrained: weights to start from, see `fluxjax.pretrained.sources.fetch`: an inference
        checkpoint, a training run, or official weights (.pth, .safetensors, ..) of the model's
        family. Position tables are resampled to the model's grid; heads of another number of
        classes, and what the weights do not have, are new.
      key: of the random values of what is new; by default `jax.random.key(0)`.
      weights_options: of official weights, what their shapes cannot tell, such as
        {"num_frames": 8}; see `load_torch`.
      **overrides: fields of the model class to set instead of the named size's.

    Returns:
      The model; with `pretrained` the model and its variables, as `fluxjax.load` gives them.

    Raises:
      ValueError: on an unknown name, field or source.
      WeightsError: if the weights are damaged or do not fit the model.
      FileNotFoundError, ConnectionError: if they are not there.
    """
    if pretrained is None:
        if key is not None or weights_options is not None:
            raise ValueError("key= and weights_options= have no meaning without pretrained=")
        return registry.create_model(name, 400 if num_classes is ... else num_classes, **overrides)
    registry.create_model(name, **overrides)  # mistakes in them are told before a download
    kind = registry.model_class(name)
    source, stored = _read(pretrained, kind, weights_options or {})
    if num_classes is ...:
        num_classes = source.num_classes
        if num_classes is None and not isinstance(source, kind):
            raise ValueError(f"{pretrained} is of no number of classes: pass num_classes=")
    model = registry.create_model(name, num_classes, **overrides)
    if model == source:
        return model, stored
    video = jnp.zeros((1, 2, 2 * model.patch, 2 * model.patch, 3), jnp.float32)
    key = jax.random.key(0) if key is None else key
    variables = jax.jit(model.init)(key, video)
    return model, start_from(source, stored, model, variables, str(pretrained))


def _read(
    source: str | os.PathLike, kind: type[nn.Module], options: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model and variables of a source."""
    path = fetch(source)
    if (path / "model").is_dir():  # a training run
        path = path / "model"
    if (path / "architecture.json").is_file():
        if options:
            raise ValueError(
                f"{source} says itself what it is; leave out weights_options={dict(options)}"
            )
        return load(path)
    if kind not in _FAMILIES:
        raise ValueError(
            f"{source} is no inference checkpoint, and official weights of a {kind.__name__} are "
            "not read; use a folder that fluxjax.save wrote"
        )
    return load_torch(_FAMILIES[kind], path, **options)
