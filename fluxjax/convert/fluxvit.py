"""Official FluxViT weights <-> `fluxjax.models.fluxvit.FluxViT`.

Source: names and shapes of the state dicts of OpenGVLab/FluxViT, single_modality.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert import label_sets, shapes
from fluxjax.convert.mapping import Row, cls_and_table, dense, layer_norm, to_variables, vector
from fluxjax.convert.states import vision_part
from fluxjax.convert.trunk import (
    block_rows,
    depthwise,
    patch_rows,
    patch_size,
    pooler_rows,
    stored_grid_of,
    trunk_fields,
    trunk_width,
)
from fluxjax.convert.untold import Untold, check_fields
from fluxjax.models.fluxvit import FluxViT

# Rows of the released position tables: S, 24 frames of 252 pixels; B, 32 frames of 280 pixels.
_RELEASED_GRIDS = {24 * 18 * 18: (24, 18, 18), 32 * 20 * 20: (32, 20, 20)}
_INFERRED = ("width", "depth", "mlp_ratio", "pooled", "patch", "layer_scale", "pool_heads")


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    num_frames: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    pool_num_heads: int | None = None,
    gelu: str | None = None,
    num_classes: int | None = None,
    label_map: Sequence[int] | None = None,
    head_key: jax.Array | None = None,
    grid: tuple[int, int, int] | None = None,
    budgets: Sequence[int] | None = None,
    **fields: Any,
) -> tuple[FluxViT, dict[str, Any]]:
    """Builds the model that a FluxViT state dict belongs to, and its variables.

    The keywords tell what shapes cannot; the log warns of what is assumed without them.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      num_heads: of the transformer; default: the released model's of that width and depth.
      num_frames: frames of the checkpoint's position table (24 for S, 32 for B).
      image_size: pixels a side, or (height, width), of the position table (252 for S, 280 for B).
      pool_num_heads: heads of the pooling projectors; default 16.
      gelu: "tanh", as the released weights were trained (default), "exact" or "quick".
      num_classes: cut the heads to another label set; 400 of 710 takes the first 400 rows.
        (The official loader leaves such heads at random values.)
      label_map: for other label sets, the checkpoint's row of each class.
      head_key: draw new heads of `num_classes` classes; the checkpoint's are not read.
      grid: resample the position table to this (T, H, W); default: as stored.
      budgets: what heads 0, 1, .. are trained for; default (3072, 2048, 1024).
      **fields: other fields of `FluxViT`, such as dtype, attention or drop_path.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    check_fields(load, FluxViT, fields, _INFERRED)
    state = vision_part(state)
    width = trunk_width(state, "a FluxViT")
    patch = patch_size(state)
    untold = Untold(f"FluxViT of width {width}", source=source)
    stored_grid = stored_grid_of(state, patch, num_frames, image_size, _RELEASED_GRIDS, untold)
    heads = _head_count(state)
    head_names = [f"head.{j}.{kind}" for j in range(heads) for kind in ("weight", "bias")]
    state, num_classes = label_sets.heads_for(state, head_names, num_classes, label_map, head_key)
    model = FluxViT(
        num_classes=num_classes,
        grid=stored_grid,
        budgets=_budgets(heads, budgets, untold),
        patch=patch,
        **trunk_fields(state, width, untold, num_heads, pool_num_heads, gelu),
        **fields,
    )
    untold.say()
    variables = _variables(model, state, head_key)
    return shapes.on_grid(model, variables, grid)


def _variables(
    model: FluxViT, state: Mapping[str, Any], head_key: jax.Array | None
) -> dict[str, Any]:
    """The state dict's tensors as variables, with new heads if there is a key for them."""
    table = rows_of(model)
    drawn = {}
    if head_key is not None:
        new = [row for row in table if row.name.startswith("head.") or _absent_norm(row, state)]
        drawn = label_sets.new_parameters(new, head_key, std=0.02)
        table = [row for row in table if row not in new]
    return to_variables(state, table, f"FluxViT of width {model.width}", drawn)


def _absent_norm(row: Row, state: Mapping[str, Any]) -> bool:
    """Pre-trained checkpoints have no classifier, so no norm before it either."""
    return row.name.startswith("fc_norm.") and row.name not in state


def _head_count(state: Mapping[str, Any]) -> int:
    """Heads that any tensor tells of; those with missing tensors are reported as such."""
    decoders = shapes.count(state, r"final_clip_decoder_for_projs\.(\d+)\.")
    numbered = shapes.count(state, r"(?:clip_projector|head)\.(\d+)\.")
    return max(numbered, decoders + 1 if decoders else 0) or len(FluxViT.budgets)


def _budgets(heads: int, budgets: Sequence[int] | None, untold: Untold) -> tuple[int, ...]:
    if budgets is None:
        if heads != len(FluxViT.budgets):
            raise ValueError(
                f"the checkpoint has {heads} heads (clip_projector.0 to {heads - 1}); pass budgets="
                "(..), the tokens that each was trained for, largest first"
            )
        return untold.known("budgets", FluxViT.budgets, "as released")
    if len(budgets) != heads:
        raise ValueError(f"budgets {tuple(budgets)} must be {heads}, one a head of the checkpoint")
    return tuple(budgets)


def rows_of(model: FluxViT) -> list[Row]:
    """The table of a FluxViT's official state dict."""
    width, pooled = model.width, model.pooled
    positions = (1, 1 + int(np.prod(model.grid)), width)
    rows = [
        vector("cls_token", "cls_token", width, (1, 1, width)),
        Row("pos_embed", positions, ("cls_position", "position_table"), cls_and_table(model.grid)),
        *depthwise("gpe_proj", "gpe", width),
        *patch_rows("patch_embed.proj", "patch_embed/proj", width, model.patch),
        vector(
            "patch_embed.norm_before.weight", "patch_embed/norm_before/scale", model.patch**2 * 3
        ),
        vector("patch_embed.norm.weight", "patch_embed/norm/scale", width),
    ]
    for i in range(model.depth):
        hidden = int(width * model.mlp_ratio)
        rows += block_rows(f"blocks.{i}", f"blocks_{i}", width, hidden, bool(model.layer_scale))
        rows += depthwise(f"blocks.{i}.attn.lpe", f"blocks_{i}/attn/lpe", width)
    for j in range(len(model.budgets)):
        rows += pooler_rows(f"clip_projector.{j}", f"poolers_{j}", width, pooled)
        rows += dense(f"head.{j}", f"heads_{j}", pooled, model.num_classes)
    rows += layer_norm("fc_norm", "fc_norm", pooled)
    for m in range(len(model.budgets) - 1):
        rows += decoder_rows(f"final_clip_decoder_for_projs.{m}", f"decoders_{m}", pooled)
    return rows


def decoder_rows(name: str, path: str, pooled: int) -> list[Row]:
    """An alignment decoder: linear map and LayerNorm."""
    head = dense(f"{name}.head", f"{path}/head", pooled, pooled)
    return head + layer_norm(f"{name}.norm", f"{path}/norm", pooled)
