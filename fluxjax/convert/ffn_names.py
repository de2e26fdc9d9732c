"""Names of TSM's, TEA's, SlowFast's and UniFormer's tensors in official state dicts, from ours.

Source: names and shapes of the state dicts of BeSpontaneous/FFN-pytorch, and of the plain networks
that it starts from: torchvision, Res2Net, facebookresearch/SlowFast, Sense-X/UniFormer.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fluxjax.convert.mapping import VECTOR, Layout, Row
from fluxjax.models.frame_flexible.branches import ANY, branch_names
from fluxjax.models.frame_flexible.frame_network import FrameNetwork
from fluxjax.models.frame_flexible.slowfast import SlowFast

_LABELS = (4, 8, 16)  # the release calls any three branches so, SlowFast's too
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Ours [*size, in, out] <-> torch's [out, in, *size].
_KERNEL = Layout(
    lambda x: (np.moveaxis(x, (1, 0), (-2, -1)),),
    lambda arrays, shape: np.moveaxis(arrays[0], (-2, -1), (1, 0)),
)
# Beginning of a module's name -> as officially; a norm's name ends with {s}, the branch.
_FRAME_NETWORK = (
    (r"layer(\d)_(\d+)", r"layer\1.\2"),
    (r"(convs|shifts)_(\d)", r"\1.\2"),
    (r"bns_(\d){s}", r"bns{s}.\1"),
    (r"(shifts\.\d)", r"\1.conv"),
)
_SLOWFAST = (
    (r"(s\d)_(pathway\d_)", r"\1.\2"),
    (r"(res\d+)\.(a|b|c|adaconv)(?=[_{.]|$)", r"\1.branch2.\2"),
    (r"head", "head.projection"),
)
_UNIFORMER = (
    (r"blocks(\d)_(\d+)", r"blocks\1.\2"),
    (r"mlp_", "mlp."),
    (r"attn_", "attn."),
)


def labels_of(frames: tuple[int, ...] | None) -> tuple[int, ...]:
    """What branches are called: 4, 8 and 16 if there are three, as released; else the frames."""
    return _LABELS if len(frames or ()) == len(_LABELS) else tuple(frames or ())


def rules_of(kind: type[nn.Module]) -> tuple[tuple[str, str], ...]:
    """The substitutions that make official names of a class's."""
    if issubclass(kind, FrameNetwork):
        return _FRAME_NETWORK
    return _SLOWFAST if kind is SlowFast else _UNIFORMER


def rows_of(model: nn.Module, labels: tuple[int, ...] | None = None) -> list[Row]:
    """The table of a network's official state dict.

    Args:
      model: the network.
      labels: what its branches are called there; default: see `labels_of`.
    """
    clip = jnp.zeros((1, 1, 32, 32, 3))
    shapes = jax.eval_shape(lambda key: model.init(key, clip), jax.random.key(0))
    rows = table(shapes, type(model), model.frames, labels)
    if not isinstance(model, FrameNetwork):
        return rows
    wrapped = model.dropout > 0  # then the wrapper holds the classifier
    head = "new_fc" if wrapped else "base_model.fc"
    return [
        row.without("head").within(head) if row.name.startswith("head.")
        else row.within("base_model.")
        for row in rows
    ]  # fmt: skip


def table(
    variables: Mapping[str, Any],
    kind: type[nn.Module],
    frames: tuple[int, ...] | None,
    labels: tuple[int, ...] | None = None,
) -> list[Row]:
    """A row for each array of a network, or of a module of one.

    Args:
      variables: collection -> nested arrays or their shapes.
      kind: class of the network.
      frames: of its branches.
      labels: what these are called; default: see `labels_of`.
    """
    called = labels or labels_of(frames) or ("",)
    labels = dict(zip(branch_names(frames), called, strict=False)) | {ANY: ""}
    official = _official(rules_of(kind), labels, issubclass(kind, FrameNetwork))
    square = 2 if issubclass(kind, FrameNetwork) else 3
    return [
        _row(collection, path, value, official, square)
        for collection, tree in variables.items()
        for path, value in flatten_dict(tree).items()
    ]


def _row(collection: str, path: tuple[str, ...], value: Any, official, square: int) -> Row:
    shape, layout = value.shape, VECTOR
    if path[-1] == "kernel":
        shape, layout = (*shape[:-3:-1], *shape[:-2]), _KERNEL
    elif path[-2] == "adapter":
        shape = (*shape, *(1,) * (square + 1))
    return Row(official(path), shape, ("/".join(path),), layout, collection)


def _official(
    rules: tuple[tuple[str, str], ...], labels: Mapping[str, Any], frames: bool
) -> Callable[[tuple[str, ...]], str]:
    def name(path: tuple[str, ...]) -> str:
        branch, parts, leaf = None, path[:-1], _LEAVES.get(path[-1], path[-1])
        if parts[-1] == "adapter":
            branch, parts, leaf = path[-1], (*parts[:-1], "adaconv"), "weight"
        elif parts[-1] in labels:
            branch, parts = parts[-1], parts[:-1]
        text = ".".join(parts) + ("" if branch is None else "{s}")
        for pattern, replacement in rules:
            text = re.sub(pattern, replacement, text)
        label = labels.get(branch, "")
        text = text.replace("{s}", f"_{label}" if label else "")
        if frames and not any(labels.values()):  # a plain network's
            text = text.replace("downsample_conv", "downsample.0")
            text = text.replace("downsample_bn", "downsample.1")
        return f"{text}.{leaf}"

    return name
