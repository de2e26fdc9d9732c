"""Official weights <-> TSM, TEA, SlowFast and UniFormer, plain or frame flexible.

Source: BeSpontaneous/FFN-pytorch. A plain network's weights fill every branch, as there.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.convert import label_sets
from fluxjax.convert.ffn_names import rows_of
from fluxjax.convert.ffn_sizes import network_of, sizes_of
from fluxjax.convert.mapping import Row, to_variables
from fluxjax.convert.untold import Untold, check_fields
from fluxjax.models.frame_flexible.branches import branch_names, is_flexible
from fluxjax.models.frame_flexible.filling import fill_branches
from fluxjax.models.frame_flexible.frame_network import FrameNetwork
from fluxjax.models.frame_flexible.slowfast import SlowFast

_LABEL = re.compile(r"(?:^|\.)(?:\w*[a-z]\w*)_(\d+)(?=\.(?:\d|weight|bias|running|num))")
_NEW_IN_TEA = re.compile(r".*\.(me|shifts)\.")
_HEADS = ("new_fc", "fc", "base_model.fc", "head.projection", "head")
_INFERRED = (
    "layers", "planes", "stem", "bottleneck", "width", "widths", "beta_inv", "fusion_ratio",
    "fusion_kernel", "mlp_ratio", "alteration",
)  # fmt: skip


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    frames: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    head_key: jax.Array | None = None,
    **fields: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the network that a state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      frames: frame numbers of the branches; default: as the names say (SlowFast: four times that,
        as released). With a plain network's weights every branch gets them, and adapters start at
        0, so that each branch computes what the plain network does.
      num_classes: with `head_key`, classes of a new classifier.
      head_key: draws a new classifier, and what an ImageNet Res2Net lacks of a TEA.
      **fields: other fields of the model, such as dtype, shift or dropout.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the weights.
    """
    kind = network_of(state)
    check_fields(load, kind, fields, _INFERRED)
    untold = Untold(f"a {kind.__name__}", source=source)
    stored = sorted({int(m[1]) for name in state if (m := _LABEL.search(name))})
    wanted = _frames(kind, stored, frames, untold)
    if issubclass(kind, FrameNetwork):
        fields = {"dropout": 0.0 if "base_model.fc.weight" in state else 0.5} | fields
        state = {_wrapped(name): value for name, value in state.items()}
    heads = [f"{head}.{leaf}" for head in _HEADS for leaf in ("weight", "bias")]
    state, classes = label_sets.heads_for(state, heads, num_classes, None, head_key)
    altered = any("adaconv" in name for name in state)
    options = sizes_of(kind, state) | fields | {"num_classes": classes}
    if stored:
        options["alteration"] = altered
    model = kind(frames=wanted, **options)
    given = model if stored else model.clone(frames=())
    rows = rows_of(given, tuple(stored))
    head = next(row.name for row in rows if row.paths == ("head/kernel",)).removesuffix(".weight")
    state = {_with_head(name, head): value for name, value in state.items()}
    if head_key is not None:
        state |= _drawn(rows, state, head, head_key)
    variables = to_variables(state, rows, f"a {kind.__name__}")
    untold.say()
    return model, variables if stored else _filled(model, variables)


def _frames(kind, stored: list[int], frames, untold: Untold) -> tuple[int, ...]:
    """Frame numbers of the model's branches; () if it is plain."""
    if not stored:
        return tuple(frames or ())
    if frames is not None and len(frames) != len(stored):
        raise ValueError(f"frames={tuple(frames)} must be {len(stored)}, the weights' branches")
    if frames is not None:
        return tuple(frames)
    found = tuple(4 * n for n in stored) if kind is SlowFast else tuple(stored)
    return untold.known("frames", found, "names of the norms")


def _wrapped(name: str) -> str:
    """A name of a ResNet as the release's wrapper has it; TSM's own wraps convolutions too."""
    name = name.replace(".conv1.net.", ".conv1.")
    return name if name.startswith(("base_model.", "new_fc.")) else f"base_model.{name}"


def _with_head(name: str, head: str) -> str:
    module, _, leaf = name.rpartition(".")
    return f"{head}.{leaf}" if module in _HEADS and leaf in ("weight", "bias") else name


def _drawn(rows: list[Row], state: Mapping[str, Any], head: str, key: jax.Array) -> dict[str, Any]:
    """New values, in torch's layout, of the classifier and of what a Res2Net has not of a TEA."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    plain = not any(_NEW_IN_TEA.match(name) for name in state)
    drawn = {}
    for row in rows:
        if not (row.name.startswith(f"{head}.") or (plain and _NEW_IN_TEA.match(row.name))):
            continue
        leaf, value = row.paths[0].rsplit("/", 1)[-1], np.zeros(row.shape, np.float32)
        if ".shifts." in row.name:  # as TSM's in the last group, else the identity
            last, half = ".shifts.3." in row.name, row.shape[0] // 2
            if last:
                value[:half, :, 2] = value[half:, :, 0] = 1
            else:
                value[..., 1] = 1
        elif leaf == "kernel":
            fan = np.prod((row.shape[0], *row.shape[2:]))
            std = 1e-3 if row.name.startswith(f"{head}.") else np.sqrt(2 / fan)
            value = np.float32(std) * generator.standard_normal(row.shape, np.float32)
        elif leaf in ("scale", "var"):
            value += 1
        drawn[row.name] = value
    return drawn


def _filled(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A plain network's variables as those of the model: in all branches, adapters 0."""
    if not is_flexible(model.frames):
        return dict(variables)
    flat = fill_branches(flatten_dict(dict(variables)), branch_names(model.frames))
    for row in rows_of(model):
        path = (row.collection, *row.paths[0].split("/"))
        if path[-2] == "adapter":
            flat[path] = np.zeros(row.shape[0], np.float32)
    return unflatten_dict(flat)
