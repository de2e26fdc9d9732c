"""Official weight files -> inference checkpoints, and a check of what came out."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from fluxjax.checkpoints.inference import check_vacant, load, save
from fluxjax.convert.load import load_torch, usage_of
from fluxjax.weight_files.errors import WeightsError

TOLERANCE = 1e-3  # of the largest reference logit; float32 noise stays far below


def convert(
    family: str,
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    overwrite: bool = False,
    **overrides: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Writes official weights as an inference checkpoint, and reads it back.

    Args:
      family: see `load_torch`.
      source: the weight file, or a folder, see `load_torch`.
      target: folder to write.
      overwrite: replace the checkpoint that `target` holds.
      **overrides: see `load_torch`.

    Returns:
      The model and the variables that `fluxjax.load(target)` gives.

    Raises:
      FileNotFoundError, FileExistsError: naming `source` or `target`.
      ValueError: as `load_torch`.
    """
    check_vacant(target, overwrite)  # before the minute that a large file takes
    if not pathlib.Path(source).exists():
        raise FileNotFoundError(f"--source={source} is not a file or folder")
    model, variables = load_torch(family, source, **overrides)
    usage = usage_of(family, model)
    save(target, model, variables, usage=usage, overwrite=overwrite)
    return load(target)


def described(model: nn.Module) -> str:
    """The model in a few words."""
    if model.num_classes is not None:
        return f"{type(model).__name__} of {model.num_classes} classes"
    width = getattr(model, "embedding", None)
    return f"{type(model).__name__} without classes" + (f", embedding {width}" if width else "")


def tensor_table(variables: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table: name, shape, mean and standard deviation of every tensor."""
    flat = {"/".join(path): np.asarray(v) for path, v in flatten_dict(variables["params"]).items()}
    width = max(map(len, flat))
    yield f"{'tensor':<{width}} {'shape':>18} {'mean':>11} {'std':>10}"
    for name, value in sorted(flat.items()):
        mean, std = value.mean(dtype=np.float64), value.std(dtype=np.float64)
        yield f"{name:<{width}} {'x'.join(map(str, value.shape)):>18} {mean:>11.4e} {std:>10.4e}"
    total = sum(value.size for value in flat.values())
    yield f"{len(flat)} tensors, {total / 1e6:.3f} M parameters"


def read_reference(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Clips and the logits that the official code gave them, from an .npz file.

    Returns:
      video [B, T, H, W, 3] float32, normalised; logits [B, K].

    Raises:
      WeightsError: if the file holds anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (ValueError, AttributeError, EOFError) as error:  # numpy's for files of other kinds
        raise WeightsError(f"--reference={path} is no .npz file: {error}") from error
    if missing := {"video", "logits"} - set(arrays):
        raise WeightsError(f"--reference={path} lacks {sorted(missing)}; it has {sorted(arrays)}")
    video, logits = arrays["video"], arrays["logits"]
    if video.ndim != 5 or video.shape[-1] != 3 or video.dtype != np.float32:
        raise WeightsError(
            f"video of --reference is {video.dtype} {list(video.shape)}; it must be float32 "
            "[B, T, H, W, 3], normalised (torch's [B, 3, T, H, W] needs a transpose)"
        )
    return video, logits


def parity(
    model: nn.Module, variables: Mapping[str, Any], video: np.ndarray, logits: np.ndarray
) -> tuple[float, float]:
    """Largest absolute difference to reference logits; the same over the largest of these.

    All tokens are kept, head 0 answers, and float32 products are exact.

    Raises:
      WeightsError: if the reference has another shape than the model's output.
    """
    found = _forward(model, variables, video)
    if found.shape != logits.shape:
        raise WeightsError(
            f"logits of --reference are {list(logits.shape)}, the model gives {list(found.shape)}"
        )
    difference = float(np.max(np.abs(found - logits)))
    return difference, difference / max(float(np.max(np.abs(logits))), 1e-30)


def seeded_summary(model: nn.Module, variables: Mapping[str, Any], seed: int = 0) -> str:
    """One line on the logits of a clip of noise, the same every time.

    It has 4 frames, of 4 x 4 patches, or of 64 pixels a side where a model has no patches.
    """
    side = 4 * getattr(model, "patch", 16)
    video = np.random.default_rng(seed).standard_normal((1, 4, side, side, 3), np.float32)
    (logits,) = _forward(model, variables, video)
    if not np.all(np.isfinite(logits)):
        raise WeightsError("a forward pass on noise gives logits that are not finite")
    best = np.argsort(-logits, kind="stable")[:3].tolist()
    return (
        f"noise of seed {seed}, 4x{side}: {logits.size} outputs, mean {logits.mean():.5f}, "
        f"std {logits.std():.5f}, range {logits.min():.5f} to {logits.max():.5f}, largest at {best}"
    )


def _forward(model: nn.Module, variables: Mapping[str, Any], video: np.ndarray) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        out = jax.jit(model.apply)(variables, video)
    # Of encoders that give their tokens, too, what is pooled of them.
    return np.asarray(out[-1] if isinstance(out, tuple) else out, np.float64)
