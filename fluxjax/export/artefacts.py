"""What a server needs to run a model without this package: programs, weights, constants.

OUT/ladder.json          from the largest budget to the smallest: grid, GMACs, accuracy, program
OUT/program_*.jaxexport  for each budget a `jax.export` program (weights, clips) -> logits
OUT/weights.safetensors  the weights that all programs share; of a frame flexible network those of
                         all branches, from which each program takes and folds its own
OUT/preprocessing.json   how frames are chosen, cropped and scaled; the pixel statistics
OUT/labels.json          name of each class, or null
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from data_pipelines.clips.crops import WHOLE, ViewPlaces
from fluxjax.budgets.points import Point
from fluxjax.serving.settings import Setting, forward, served_part
from fluxjax.version import __version__
from fluxjax.weight_files.safetensors_files import write_safetensors

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS = "weights.safetensors"
_FORMAT = 1
_TRAINING_ONLY = "decoders_"  # map features for the alignment loss; no program reads them


@dataclasses.dataclass(frozen=True)
class Rung:
    """One budget of the ladder.

    Attributes:
      setting: how the model is run.
      gmacs: giga multiply-accumulates a clip.
      point: what a sweep measured of the setting, None without a report.
    """

    setting: Setting
    gmacs: float
    point: Point | None = None


def flat_weights(variables: Mapping[str, Any]) -> dict[str, jax.Array]:
    """What inference needs, by names such as "blocks_0/attn/qkv/kernel".

    Those of other collections begin with its name and a colon, as in "batch_stats:bn1_0/mean".
    """
    flat = {}
    for kind, tree in variables.items():
        start = "" if kind == "params" else f"{kind}:"
        flat |= {start + "/".join(path): value for path, value in flatten_dict(tree).items()}
    return {name: value for name, value in flat.items() if not name.startswith(_TRAINING_ONLY)}


def _variables_of(weights: Mapping[str, jax.Array]) -> dict[str, Any]:
    """The inverse of `flat_weights`."""
    variables: dict[str, Any] = {}
    for name, value in weights.items():
        kind, _, path = name.rpartition(":")
        variables.setdefault(kind or "params", {})[tuple(path.split("/"))] = value
    return {kind: unflatten_dict(flat) for kind, flat in variables.items()}


def serving_function(model: nn.Module, setting: Setting):
    """(weights by name, clips [B, T, S, S, 3] uint8) -> logits [B, K] float32.

    Raises:
      ValueError: for a selection that needs a random key.
    """
    if setting.method == "random":
        raise ValueError("a random selection cannot be served: every call would keep other tokens")
    if hasattr(model, "attention"):
        # The back end of every platform; cuDNN's would tie the program to one.
        model = model.clone(attention="xla")

    def serve(weights: Mapping[str, jax.Array], clips: jax.Array) -> jax.Array:
        served, variables = served_part(model, _variables_of(weights), setting)
        return forward(served, variables, clips, setting)

    return serve


def export_program(
    model: nn.Module,
    variables: Mapping[str, Any],
    setting: Setting,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The program of one setting, for any number of clips and all the platforms.

    Raises:
      ValueError: as `serving_function`, or on an unknown platform.
    """
    if unknown := sorted(set(platforms) - {*PLATFORMS, "rocm"}):
        raise ValueError(f"unknown platforms {unknown}; choose of {PLATFORMS}")
    (batch,) = jax.export.symbolic_shape("batch")
    frames, side = setting.grid
    clips = jax.ShapeDtypeStruct((batch, frames, side, side, 3), jnp.uint8)
    shapes = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat_weights(variables).items()
    }
    function = jax.jit(serving_function(model, setting))
    return jax.export.export(function, platforms=tuple(platforms))(shapes, clips)


def export(
    target: str | os.PathLike,
    model: nn.Module,
    variables: Mapping[str, Any],
    rungs: Sequence[Rung],
    *,
    labels: Sequence[str] | None = None,
    sampling: str = "sparse",
    platforms: Sequence[str] = PLATFORMS,
    places: ViewPlaces = WHOLE,
) -> pathlib.Path:
    """Writes the artefacts; see the module's text.

    Args:
      target: a folder that does not exist or is empty; parents are made.
      model: with budgets of tokens or frames.
      variables: of the model.
      rungs: budgets to serve; their settings must differ.
      labels: name of each class, in order.
      sampling: name of the frame sampler, for preprocessing.json.
      platforms: that the programs run on.
      places: where the view lies, for preprocessing.json.

    Returns:
      The folder.

    Raises:
      FileExistsError: if the folder holds anything.
      ValueError: as `export_program`, or if two rungs are the same.
    """
    target = pathlib.Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} holds something already; choose another folder")
    settings = [rung.setting for rung in rungs]
    if len(set(settings)) < len(settings):
        raise ValueError(f"two of the rungs are the same: {'; '.join(map(str, settings))}")
    rungs = sorted(rungs, key=lambda rung: (-rung.setting.budget, -rung.gmacs))
    programs = [export_program(model, variables, rung.setting, platforms) for rung in rungs]
    target.mkdir(parents=True, exist_ok=True)
    entries = []
    for rung, program in zip(rungs, programs, strict=True):
        entry = ladder_entry(rung)
        (target / entry["program"]).write_bytes(program.serialize())
        entries.append(entry)
    write_safetensors(target / WEIGHTS, flat_weights(variables))
    ladder = {
        "format": _FORMAT,
        "fluxjax": __version__,
        "jax": jax.__version__,
        "model": type(model).__name__,
        "platforms": list(platforms),
        "calling_convention": programs[0].calling_convention_version,
        "weights": WEIGHTS,
        "rungs": entries,
    }
    _write_json(target / "ladder.json", ladder)
    _write_json(target / "preprocessing.json", preprocessing(model, sampling, places))
    _write_json(target / "labels.json", None if labels is None else list(labels))
    return target


def ladder_entry(rung: Rung) -> dict[str, Any]:
    """One entry of ladder.json; accuracies and times are null where no report was given."""
    setting, point = rung.setting, rung.point
    return {
        "budget": setting.budget,
        "grid": str(setting.grid),
        "frames": setting.grid.frames,
        "resolution": setting.grid.resolution,
        "method": setting.method,
        "head": setting.head,
        "gmacs": rung.gmacs,
        "top1": None if point is None else point.top1,
        "latency_ms": None if point is None else point.latency_ms,
        "program": f"program_{setting.budget}_{setting.grid}_{setting.method}.jaxexport".replace(
            "+", "_"
        ),
    }


def preprocessing(model: nn.Module, sampling: str, places: ViewPlaces = WHOLE) -> dict[str, Any]:
    """From a video to what the programs take; pixels are normalised inside them."""
    kind, _, stride = sampling.partition(":")
    frames = {
        "dense": f"s = max(n - (T - 1) * {stride} - 1, 0) // 2; "
        f"frame i is min(s + {stride} * i, n - 1)",
        "sparse": "s = (n - 1) / T; frame i is min(round(s * i) + floor(s / 2), n - 1)",
        "time": f"frame i is the one on display {stride} * (i + 1 / 2) / T seconds after "
        f"max(D - {stride}, 0) / 2, where the video lasts D seconds",
        "ssv2": "frame i is floor(n / T * (i + 1 / 2))",
        "ffn_2d": "frame i is floor(n / T * (i + 1 / 2)) if n > T, else 0",
        "uniform": "frame i is floor(n / T * (i + 1 / 2))",
        "interval": "K = min(n, T), e(j) = floor(n / K * j); frame i is "
        "e(j) + (e(j + 1) - 1 - e(j)) // 2 for j = min(i, K - 1)",
        "fps": f"frame i is the one on display nearest to (i + 1 / 2) / {stride} seconds after the "
        "first, and behind the video's end the last such one",
        "jittered": f"s = max(n - {stride} * T, 0) // 2; frame i is (s + {stride} * i) mod n",
        "window": f"s = max(n - {stride} * T, 0) // 2; frame i is min(s + {stride} * i, n - 1)",
        "tsm_dense": "s = max(n - 64, 0) // 2; frame i is (s + 64 // T * i) mod n",
    }
    where = {"centre": "middle", "start": "left or upper"}[places.single]
    return {
        "input": "uint8 RGB [batch, T, S, S, 3], values 0 to 255",
        "frames": f"of the n frames of a video, T: {frames[kind]}, round half to even",
        "crop": f"the {where} square of the upright picture, {places.share:g} of its short side "
        "long, in the middle across",
        "resize": "to S x S, bilinear (a triangle filter) with antialiasing, rounded to uint8",
        "normalised_inside": {"scale": 255, **model.pixels._asdict()},
        "patch": getattr(model, "patch", None),
    }


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
