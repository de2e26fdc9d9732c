"""Tables of CLIP's state dict: the image encoder, and one block of either tower."""

import math
from typing import Any

import numpy as np

from fluxjax.convert.clip_names import VISUAL
from fluxjax.convert.mapping import (
    Layout,
    Row,
    cls_and_table,
    dense,
    layer_norm,
    patch_matrix,
    vector,
)
from fluxjax.models.clip_image import ClipImage

_IN_WEIGHT = Layout(
    lambda x: tuple(part.T for part in np.split(x, 3)),
    lambda arrays, shape: np.concatenate([array.T for array in arrays]),
)
_IN_BIAS = Layout(
    lambda x: tuple(np.split(x, 3)), lambda arrays, shape: np.concatenate(list(arrays))
)


def rows_of(model: ClipImage) -> list[Row]:
    """The table of the image encoder's part of OpenAI's state dict."""
    if model.num_classes is not None:
        raise ValueError("a CLIP classifier has no official names; only num_classes=None has")
    rows = encoder_rows(model, (model.width, 3, model.patch, model.patch))
    if model.embedding is not None:
        rows.append(Row("proj", (model.width, model.embedding), ("proj/kernel",)))
    return [row.within(VISUAL) for row in rows]


def encoder_rows(model: Any, stored_patch: tuple[int, ...]) -> list[Row]:
    """The tensors of a tower and the norm after it, without "visual.".

    Args:
      model: whose fields describe the tower, see `TowerFields`.
      stored_patch: shape of the patch embedding's weight, [C, 3, p, p] or [C, 3*p*p].
    """
    width, hidden = model.width, round(model.width * model.mlp_ratio)
    positions = (1 + math.prod(model.grid), width)
    table = cls_and_table((1, *model.grid), stacked=False)
    embed = "tower/patch_embed"
    rows = [
        vector("class_embedding", "tower/cls_token", width),
        Row("positional_embedding", positions,
            ("tower/cls_position", "tower/position_table"), table),
        Row("conv1.weight", stored_patch, (f"{embed}/kernel",), patch_matrix(model.patch)),
    ]  # fmt: skip
    if model.patch_bias:
        rows.append(vector("conv1.bias", f"{embed}/bias", width))
    if model.ln_pre:
        rows += layer_norm("ln_pre", "tower/norm_pre", width)
    for i in range(model.depth):
        rows += block_rows(f"transformer.resblocks.{i}", f"tower/blocks_{i}", width, hidden)
    return rows + layer_norm("ln_post", "ln_post", width)


def block_rows(name: str, path: str, width: int, hidden: int) -> list[Row]:
    """The tensors of one block of either tower."""
    paths = [f"{path}/attn/{part}" for part in "qkv"]
    kernels, biases = (tuple(f"{p}/{leaf}" for p in paths) for leaf in ("kernel", "bias"))
    return [
        *layer_norm(f"{name}.ln_1", f"{path}/norm1", width),
        Row(f"{name}.attn.in_proj_weight", (3 * width, width), kernels, _IN_WEIGHT),
        Row(f"{name}.attn.in_proj_bias", (3 * width,), biases, _IN_BIAS),
        *dense(f"{name}.attn.out_proj", f"{path}/attn/out", width, width),
        *layer_norm(f"{name}.ln_2", f"{path}/norm2", width),
        *dense(f"{name}.mlp.c_fc", f"{path}/mlp/fc1", width, hidden),
        *dense(f"{name}.mlp.c_proj", f"{path}/mlp/fc2", hidden, width),
    ]
