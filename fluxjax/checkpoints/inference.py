"""Inference checkpoints: a folder with the weights, and the architecture that they belong to.

DIRECTORY/architecture.json   class and fields of the model, version of fluxjax, label names, pixel
                              statistics, and how the model was run in training
DIRECTORY/weights/            the variables, written by Orbax
DIRECTORY/manifest.json       sizes and sha256 of all that, see `fluxjax.checkpoints.manifest`
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fluxjax.checkpoints import manifest
from fluxjax.checkpoints.paths import local_path
from fluxjax.checkpoints.replacing import replaced
from fluxjax.checkpoints.usage import Usage
from fluxjax.models.registry import model_classes
from fluxjax.tokens.tokens import PixelStats
from fluxjax.version import __version__
from fluxjax.weight_files.errors import WeightsError

_ARCHITECTURE = "architecture.json"
_WEIGHTS = "weights"
_FORMAT = 1
_OF_FLAX = ("parent", "name")  # fields that flax adds to every module


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a checkpoint says of itself.

    Attributes:
      model: the flax module, without parameters.
      version: of the fluxjax that wrote it.
      labels: name of each class, or None.
      usage: how it was run where it was trained, or None where nothing is known of that.
      step: of the training run that it is of, or None where that is not known.
      scores: name -> value of what was measured of it in that run, {} where nothing was.
    """

    model: nn.Module
    version: str
    labels: tuple[str, ...] | None
    usage: Usage | None = None
    step: int | None = None
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def pixels(self) -> PixelStats | None:
        """What the model normalises uint8 pixels by."""
        return getattr(self.model, "pixels", None)


def save(
    directory: str | os.PathLike,
    model: nn.Module,
    variables: Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    usage: Usage | None = None,
    step: int | None = None,
    scores: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes an inference checkpoint: `load` gives the same model and variables back.

    The folder appears under its name only once it is complete. Weights are stored without their
    placement, so any number of devices can read them. In a program of several processes, call this
    on one of them, with arrays that are whole on every device.

    Args:
      directory: a folder that does not exist or is empty; parents are made.
      model: of a class that `create_model` builds.
      variables: of that model.
      labels: name of each class, in order.
      usage: how the model was run where it was trained; `predict`, `budgets` and `export` go by it.
      step: of the training run that it is of.
      scores: name -> value, what was measured of it; those that are not finite are left out.
      overwrite: replace the checkpoint that `directory` holds.

    Raises:
      FileExistsError: if the folder holds anything and `overwrite` is off, or anything that is not
        such a checkpoint.
      ValueError: on a model or labels that cannot be stored.
    """
    directory = pathlib.Path(local_path(directory)).absolute()
    check_vacant(directory, overwrite)
    architecture = {
        "format": _FORMAT,
        "fluxjax": __version__,
        "model": {"class": _known_class(model), "fields": _fields(model)},
        "labels": _checked_labels(labels, model),
        "pixels": _pixels(model),
        "usage": None if usage is None else dataclasses.asdict(usage),
        "step": step,
        "scores": {name: x for name, x in (scores or {}).items() if math.isfinite(x)},
    }
    arrays = jax.tree.map(np.asarray, dict(variables))
    directory.parent.mkdir(parents=True, exist_ok=True)
    with replaced(directory) as folder:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder / _WEIGHTS, arrays)
        text = json.dumps(architecture, indent=2) + "\n"
        (folder / _ARCHITECTURE).write_text(text, encoding="utf-8")
        manifest.write(folder, arrays)


def load(directory: str | os.PathLike) -> tuple[nn.Module, dict[str, Any]]:
    """Reads an inference checkpoint, or that of a training run (RUN for RUN/model).

    `read_architecture` has what else it says: class names, preprocessing.

    Returns:
      The model and its variables, on the default device.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if it is no inference checkpoint, or a damaged one.
    """
    directory = model_folder(directory).absolute()
    model = read_architecture(directory).model
    try:
        manifest.verify(directory)
    except manifest.DamagedError as error:
        raise WeightsError(f"{error}; write the checkpoint again") from error
    try:
        with _checkpointer() as checkpointer:
            arrays = checkpointer.restore(directory / _WEIGHTS)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the weights in {directory / _WEIGHTS} cannot be read; write the checkpoint again. "
            f"Orbax says: {error}"
        ) from error
    return model, jax.tree.map(jnp.asarray, arrays)


def read_architecture(directory: str | os.PathLike) -> Architecture:
    """What a checkpoint, or that of a run, says of itself, without reading its weights.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if it is no inference checkpoint, or a damaged one.
    """
    directory = model_folder(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a folder; expected an inference checkpoint")
    path = directory / _ARCHITECTURE
    if not path.is_file() or not (directory / _WEIGHTS).is_dir():
        raise WeightsError(
            f"{directory} is no inference checkpoint: it lacks {_ARCHITECTURE} or {_WEIGHTS}/; "
            "such folders are written by fluxjax.save, fluxjax.convert and by a training run "
            "(WORKDIR/model)"
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        version, form = stored["fluxjax"], stored["format"]
        kind, fields = stored["model"]["class"], dict(stored["model"]["fields"])
        labels = None if stored["labels"] is None else tuple(stored["labels"])
        usage = stored.get("usage")  # not there in folders of version 0.1
        usage = None if usage is None else Usage.from_json(usage)
        step, scores = stored.get("step"), dict(stored.get("scores", {}))  # likewise
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(kind, str) or not isinstance(version, str):
        raise WeightsError(f"{path} is damaged: the class or the version is no text")
    if form != _FORMAT:
        raise WeightsError(f"{path} has format {form!r}, this fluxjax reads {_FORMAT}; update it")
    model = _built(kind, fields, f"{path}, written by {version},")
    if stored.get("pixels", _pixels(model)) != _pixels(model):
        raise WeightsError(
            f"{path}, written by {version}, is of a {kind} for pixels of {stored['pixels']}; here "
            f"they are {_pixels(model)}"
        )
    return Architecture(model, version, labels, usage, step, scores)


def model_folder(path: str | os.PathLike) -> pathlib.Path:
    """The folder of an inference checkpoint: of a training run the model in it.

    Raises:
      ValueError: on an empty path, or a remote one, see `local_path`.
    """
    folder = pathlib.Path(local_path(path))
    inside = folder / "model"
    return inside if not (folder / _ARCHITECTURE).is_file() and inside.is_dir() else folder


def check_vacant(directory: str | os.PathLike, overwrite: bool) -> None:
    """Raises FileExistsError unless a checkpoint may be written to `directory`; see `save`."""
    directory = pathlib.Path(local_path(directory))
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not (directory / _ARCHITECTURE).is_file():
        raise FileExistsError(
            f"{directory} exists and is no inference checkpoint; choose another folder"
        )
    if not overwrite:
        raise FileExistsError(
            f"{directory} holds a checkpoint already; choose another folder or pass overwrite"
        )


def _checkpointer() -> ocp.StandardCheckpointer:
    """Of this process alone: by default Orbax waits for all processes of a program."""
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"alone_{this}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _pixels(model: nn.Module) -> dict[str, list[float]] | None:
    """Mean and standard deviation that the model normalises pixels by; None for other models."""
    stats = getattr(model, "pixels", None)
    return None if stats is None else {k: list(v) for k, v in stats._asdict().items()}


def _known_class(model: nn.Module) -> str:
    name = type(model).__name__
    if model_classes().get(name) is not type(model):
        raise ValueError(f"{name} is not among the models that are stored: {_known()}")
    return name


def _known() -> list[str]:
    return sorted(model_classes())


def _checked_labels(labels: Sequence[str] | None, model: nn.Module) -> list[str] | None:
    if labels is None:
        return None
    if len(labels) != model.num_classes:
        raise ValueError(f"{len(labels)} labels for a model of {model.num_classes} classes")
    return [str(label) for label in labels]


def _fields(model: nn.Module) -> dict[str, Any]:
    """The model's fields as JSON values; tuples become lists, a dtype its name."""
    fields = {}
    for field in dataclasses.fields(model):
        if field.name in _OF_FLAX:
            continue
        value = getattr(model, field.name)
        fields[field.name] = jnp.dtype(value).name if field.name == "dtype" else value
    try:
        # Through JSON and back: what cannot be restored is refused now, not when loading.
        restored = json.loads(json.dumps(fields))
    except TypeError as error:
        raise ValueError(f"a field of {type(model).__name__} cannot be stored: {error}") from error
    return restored


def _built(kind: str, fields: dict[str, Any], where: str) -> nn.Module:
    classes = model_classes()
    if kind not in classes:
        raise WeightsError(
            f"{where} holds a model of the unknown class {kind!r}; known: {_known()}"
        )
    own = {field.name for field in dataclasses.fields(classes[kind])} - set(_OF_FLAX)
    if unknown := sorted(set(fields) - own):
        raise WeightsError(f"{where} has unknown fields {unknown} of {kind}; known: {sorted(own)}")
    try:
        if "dtype" in fields:
            fields["dtype"] = jnp.dtype(fields["dtype"])
        return classes[kind](**{name: _tuples(value) for name, value in fields.items()})
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{where} does not describe a {kind}: {error}") from error


def _tuples(value: Any) -> Any:
    """Lists as tuples at every depth: fields of modules must be hashable."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
