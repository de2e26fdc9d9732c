"""Official InternVideo2 weights <-> `fluxjax.models.internvideo2.InternVideo2`.

Source: names and shapes of the state dicts of OpenGVLab/InternVideo, InternVideo2/single_modality;
stage-2 names of its multi_modality.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert import label_sets, shapes
from fluxjax.convert.internvideo2_student import STUDENT_FIELDS, student_fields, student_rows
from fluxjax.convert.mapping import (
    Row,
    cls_and_table,
    dense,
    folded,
    layer_norm,
    to_variables,
    vector,
)
from fluxjax.convert.states import vision_part
from fluxjax.convert.trunk import (
    block_rows,
    patch_rows,
    patch_size,
    pooler_rows,
    stored_grid_of,
    trunk_fields,
    trunk_width,
)
from fluxjax.convert.untold import Untold, check_fields
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.models.students import InternVideo2Student

_INFERRED = (
    *("width", "depth", "mlp_ratio", "pooled", "patch", "layer_scale", "pool_heads"),
    *("separate_positions", "attentive_probe"),
)
_STAGE_2 = "vision_encoder."
# What pre-training and distillation leave in a checkpoint and only a student has.
_LEFT_OUT = re.compile(
    r"(clip_decoder|final_clip_decoder|mae_decoder)\.|(clip|mae|img|clip_img)_pos_embed$"
)
_HEAD = ("head.weight", "head.bias")


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
    student: bool = False,
    **fields: Any,
) -> tuple[InternVideo2, dict[str, Any]]:
    """Builds the model that an InternVideo2 state dict belongs to, and its variables.

    Finetuned, distilled, stage-1 and stage-2 (`vision_encoder.*`) checkpoints are read. One without
    a head gives a backbone, unless `head_key` asks for a new head.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      num_heads: of the transformer; default: the released model's of that width and depth.
      num_frames: of the checkpoint's position table; default 8, at stage 2 4; image teachers: 1.
      image_size: pixels a side, or (height, width), of the checkpoint's position table.
      pool_num_heads: heads of the pooling projector; default 16.
      gelu: "tanh", as the released weights were trained (default), "exact" or "quick".
      num_classes, label_map, head_key, grid: see `fluxjax.convert.fluxvit.load`.
      student: keep decoders, for an `InternVideo2Student`; `taught_interval` is not told by shapes.
      **fields: other fields of the model, such as dtype, attention or drop_path.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    kind = InternVideo2Student if student else InternVideo2
    check_fields(load, kind, fields, (*_INFERRED, *(STUDENT_FIELDS if student else ())))
    stage_2 = any(name.startswith(_STAGE_2) for name in state)
    state, told = _of_kind(vision_part(state), student)
    width = trunk_width(state, "an InternVideo2")
    patch = patch_size(state)
    untold = Untold(f"InternVideo2 of width {width}", source=source)
    if num_frames is None and image_size is None and "pos_embed" in state:
        num_frames = _released_frames(state, stage_2, untold)
    state, num_classes = _heads_for(state, num_classes, label_map, head_key)
    model = kind(
        num_classes=num_classes,
        grid=_stored_grid(state, patch, num_frames, image_size, untold),
        patch=patch,
        separate_positions="pos_embed_spatial" in state,
        attentive_probe=any(name.startswith("extra_mlp.") for name in state),
        **trunk_fields(state, width, untold, num_heads, pool_num_heads, gelu),
        **(told | fields),
    )
    untold.say()
    return shapes.on_grid(model, _variables(model, state, head_key), grid)


def _of_kind(state: Mapping[str, Any], student: bool) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What a student or a video model has of a state, and the fields that the rest tells."""
    if student:
        return state, student_fields(state)
    return {name: value for name, value in state.items() if not _LEFT_OUT.match(name)}, {}


def _heads_for(
    state: Mapping[str, Any],
    num_classes: int | None,
    label_map: Sequence[int] | None,
    head_key: jax.Array | None,
) -> tuple[Mapping[str, Any], int | None]:
    """The state with the heads that are asked for, and their classes; none for a backbone."""
    if head_key is not None or num_classes is not None or any(name in state for name in _HEAD):
        return label_sets.heads_for(state, _HEAD, num_classes, label_map, head_key)
    if label_map is not None:
        raise ValueError("label_map= needs a checkpoint with a head; this one has none")
    return state, None


def _variables(
    model: InternVideo2, state: Mapping[str, Any], head_key: jax.Array | None
) -> dict[str, Any]:
    """The state dict's tensors as variables, with new heads if there is a key for them."""
    table = rows_of(model)
    drawn = {}
    if head_key is not None:  # distilled models have no norm before the head either
        new = [r for r in table if r.name not in state and r.name.startswith(("head.", "fc_norm."))]
        drawn = label_sets.new_parameters(
            new, head_key, std=0.02 * 0.001
        )  # the official init_scale
        table = [row for row in table if row not in new]
    return to_variables(state, table, f"InternVideo2 of width {model.width}", drawn)


def _released_frames(state: Mapping[str, Any], stage_2: bool, untold: Untold) -> int:
    """Frames of the released position tables of 224 pixels, assumed of others."""
    frames = 4 if stage_2 else 8
    released = frames if np.shape(state["pos_embed"])[1] == 1 + frames * 16**2 else None
    why = "as in released models of stage 2" if stage_2 else "as in released models"
    return untold.choose("num_frames", None, released=released, assumed=frames, why=why)


def _stored_grid(
    state: Mapping[str, Any],
    patch: int,
    num_frames: int | None,
    image_size: int | tuple[int, int] | None,
    untold: Untold,
) -> tuple[int, int, int]:
    if "pos_embed_spatial" in state and "pos_embed_temporal" in state:
        # Here the shapes tell the frames, and with a square grid everything.
        frames = np.shape(state["pos_embed_temporal"])[1]
        area = np.shape(state["pos_embed_spatial"])[1]
        size = math.isqrt(area) * patch if image_size is None else image_size
        return shapes.grid_of(frames * area, patch, frames, size, {}, untold)
    return stored_grid_of(state, patch, num_frames, image_size, {}, untold)


def rows_of(model: InternVideo2) -> list[Row]:
    """The table of an InternVideo2's official state dict."""
    width, pooled = model.width, model.pooled
    rows = [
        vector("cls_token", "cls_token", width, (1, 1, width)),
        *_position_rows(model),
        *patch_rows("patch_embed.proj", "patch_embed", width, model.patch),
    ]
    for i in range(model.depth):
        hidden = int(width * model.mlp_ratio)
        rows += block_rows(f"blocks.{i}", f"blocks_{i}", width, hidden, bool(model.layer_scale))
    rows += pooler_rows("clip_projector", "pooler", width, pooled)
    if isinstance(model, InternVideo2Student):
        rows += student_rows(model)
    if model.attentive_probe:
        rows += layer_norm("extra_mlp.0", "probe_norm", pooled)
        rows += dense("extra_mlp.1.fc1", "probe_mlp/fc1", pooled, 4 * pooled)
        rows += dense("extra_mlp.1.fc2", "probe_mlp/fc2", 4 * pooled, pooled)
    if model.num_classes is not None:
        rows += layer_norm("fc_norm", "fc_norm", pooled)
        rows += dense("head", "head", pooled, model.num_classes)
    return rows


def _position_rows(model: InternVideo2) -> list[Row]:
    (t, h, w), width = model.grid, model.width
    if not model.separate_positions:
        layout = cls_and_table(model.grid)
        shape = (1, 1 + t * h * w, width)
        return [Row("pos_embed", shape, ("cls_position", "position_table"), layout)]
    return [
        Row("pos_embed_spatial", (1, h * w, width), ("spatial_table",), folded(h, w)),
        Row("pos_embed_temporal", (1, t, width), ("temporal_table",), folded(t)),
        vector("pos_embed_cls", "cls_position", width, (1, 1, width)),
    ]
