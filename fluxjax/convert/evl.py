"""Official EVL weights <-> `fluxjax.models.evl.Evl`.

Source: names and shapes of OpenGVLab/efficient-video-recognition. Checkpoints of frozen training
hold the decoder and the head only; the image tower is CLIP's.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert import clip as clip_weights
from fluxjax.convert import shapes
from fluxjax.convert.mapping import (
    Layout,
    Row,
    cls_and_table,
    dense,
    kernel,
    layer_norm,
    patch_matrix,
    to_variables,
    vector,
)
from fluxjax.convert.states import state_of, vision_part
from fluxjax.convert.untold import Untold, check_fields, checked_gelu, checked_heads
from fluxjax.models.clip import ClipTower
from fluxjax.models.evl import Evl
from fluxjax.tokens.tokens import CLIP_PIXELS

_BACKBONE = "backbone."
_TOWER = ("width", "depth", "num_heads", "mlp_ratio", "grid", "patch", "ln_pre", "patch_bias")
# Width of the decoder's queries and keys -> heads: B, L, and our own "ti".
_RELEASED_HEADS = {64: 4, 768: 12, 1024: 16}
_TEMPORAL = {  # field -> how the names of its tensors begin
    "temporal_conv": "decoder.temporal_conv.",
    "temporal_position": "decoder.temporal_pos_embed.",
    "temporal_attention": "decoder.cross_attention.",
}
_LAYER = r"decoder\.decoder_layers\.\d+\."
_INFERRED = (
    *(name for name in _TOWER if name not in ("num_heads", "grid")),
    "num_classes", "decoder_layers", "qkv_width", "decoder_mlp_ratio",
    "temporal_conv", "temporal_position", "temporal_attention",
)  # fmt: skip


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    clip: str | os.PathLike | Mapping[str, Any] | None = None,
    num_heads: int | None = None,
    decoder_heads: int | None = None,
    num_frames: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
    tower_gelu: str | None = None,
    **fields: Any,
) -> tuple[Evl, dict[str, Any]]:
    """Builds the model that an EVL state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      clip: CLIP's weights, see `load_torch("clip", ..)`; needed where the state has no backbone.
      num_heads: of the image tower; default: see `load_torch("clip", ..)`.
      decoder_heads: of the decoder; default: the released model's of that width.
      num_frames: needed only where the decoder has no temporal positions, which tell it.
      image_size: pixels a side, or (height, width), of the checkpoint.
      grid: resample the tower's position table to this (H, W) in patches; default: as stored.
      tower_gelu: of the image tower, see `load_torch("clip", ..)`.
      **fields: other fields of `Evl`, such as dtype, pixels, tower_dtype or select.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    check_fields(load, Evl, fields, _INFERRED)
    state = vision_part(state)
    untold = Untold("an EVL", source=source)
    told = {"num_heads": num_heads, "image_size": image_size, "gelu": tower_gelu}
    told["pixels"] = fields.pop("pixels", None)
    tower, taken = _tower_of(state, clip, told, untold)
    width = tower["width"]
    qkv = shapes.infer(state, "an EVL", (_LAYER + r"attn\.[qkv]_proj\.(weight|bias)", 0))
    hidden = shapes.infer(state, "an EVL", (_LAYER + r"mlp\.fc1\.(weight|bias)", 0))
    heads = untold.choose("decoder_heads", decoder_heads, released=_RELEASED_HEADS.get(qkv))
    untold.known("epsilon", 1e-5, "the official code")
    model = Evl(
        num_classes=shapes.infer(state, "an EVL", (r"proj\.2\.(weight|bias)", 0)),
        num_frames=_num_frames(state, num_frames),
        decoder_layers=shapes.count(state, r"decoder\.decoder_layers\.(\d+)\."),
        qkv_width=qkv,
        decoder_heads=checked_heads("decoder_heads", qkv, heads),
        decoder_mlp_ratio=hidden / width,
        **{f: any(n.startswith(name) for n in state) for f, name in _TEMPORAL.items()},
        **tower,
        **fields,
    )
    rows = tower_rows(model) if taken is None else []
    rows = [row.without(_BACKBONE) for row in rows] + decoder_rows(model)
    variables = to_variables(state, rows, f"EVL of width {width}")
    if taken is not None:
        variables["params"]["tower"] = taken
    untold.say()
    return clip_weights.on_grid(model, variables, grid)


def _tower_of(
    state: Mapping[str, Any], clip: Any, told: Mapping[str, Any], untold: Untold
) -> tuple[dict[str, Any], Any]:
    """Fields of the image tower, and its parameters where `clip` gives them.

    `told` holds the keywords num_heads, image_size, gelu and pixels, None where not given.
    """
    own = any(name.startswith("blocks.") for name in state)
    if own and clip is not None:
        raise ValueError("the checkpoint has its own backbone: leave out clip=")
    if own:
        return _own_tower(state, told, untold), None
    if clip is None:
        raise ValueError(
            "the checkpoint holds the decoder only, its image tower is CLIP's: pass clip=, the "
            "path of CLIP's weights"
        )
    source = None if isinstance(clip, Mapping) else clip
    image, tower = clip_weights.load_tower(state_of(clip), source, **told)
    fields = {name: getattr(image, name) for name in (*_TOWER, "pixels")}
    return fields | {"tower_gelu": image.gelu}, tower


def _own_tower(state: Mapping[str, Any], told: Mapping[str, Any], untold: Untold) -> dict[str, Any]:
    """Fields of the image tower of a checkpoint that has one."""
    what = "an EVL with a backbone"
    width = shapes.infer(state, what, ("cls_token", 0), (r"blocks\.\d+\.norm[12]\.weight", 0))
    hidden = shapes.infer(state, what, (r"blocks\.\d+\.mlp\.fc1\.(weight|bias)", 0))
    shape = np.shape(state.get("patch_embed.proj.weight", ()))
    patch = math.isqrt(shape[-1] // 3) if len(shape) == 2 else ClipTower.patch
    rows = np.shape(state.get("pos_embed", (0, 0)))[0] - 1
    depth = shapes.count(state, r"blocks\.(\d+)\.")
    released = clip_weights.RELEASED_HEADS.get((width, depth))
    heads = untold.choose("num_heads", told["num_heads"], released=released)
    # The official code knows no other, whatever CLIP the weights began as.
    gelu = untold.choose("tower_gelu", told["gelu"], released="quick")
    return {
        "width": width,
        "depth": depth,
        "num_heads": checked_heads("num_heads", width, heads),
        "mlp_ratio": hidden / width,
        "grid": shapes.square_grid_of(rows, patch, told["image_size"], untold),
        "patch": patch,
        "ln_pre": any(name.startswith("ln_pre.") for name in state),
        "patch_bias": "patch_embed.proj.bias" in state,
        "tower_gelu": checked_gelu("tower_gelu", gelu),
        "pixels": untold.choose("pixels", told["pixels"], released=CLIP_PIXELS),
    }


def _num_frames(state: Mapping[str, Any], num_frames: int | None) -> int:
    table = state.get("decoder.temporal_pos_embed.0")
    if table is None:
        if num_frames is None:
            raise ValueError("the decoder has no temporal positions; pass num_frames=")
        return num_frames
    if num_frames not in (None, len(table)):
        raise ValueError(f"num_frames={num_frames}, the temporal positions are of {len(table)}")
    return len(table)


_CONV = Layout(
    lambda x: (x[:, 0].T,), lambda arrays, shape: np.ascontiguousarray(arrays[0].T)[:, None]
)


def _offsets(spans: tuple[int, int]) -> Layout:
    """Stored [(2h-1)*(2w-1), C] <-> table [2h-1, 2w-1, C]."""
    return Layout(
        lambda x: (x.reshape(*spans, x.shape[-1]),), lambda arrays, shape: arrays[0].reshape(shape)
    )


def rows_of(model: Evl) -> list[Row]:
    """The table of the official state dict, backbone included."""
    return tower_rows(model) + decoder_rows(model)


def tower_rows(model: Evl) -> list[Row]:
    """The image tower's tensors under EVL's names."""
    width, hidden = model.width, round(model.width * model.mlp_ratio)
    weight = (width, 3 * model.patch**2)
    positions = (1 + math.prod(model.grid), width)
    rows = [
        vector("cls_token", "tower/cls_token", width),
        Row(
            "pos_embed",
            positions,
            ("tower/cls_position", "tower/position_table"),
            cls_and_table((1, *model.grid), stacked=False),
        ),
        Row(
            "patch_embed.proj.weight", weight, ("tower/patch_embed/kernel",),
            patch_matrix(model.patch),
        ),
    ]  # fmt: skip
    if model.patch_bias:
        rows.append(vector("patch_embed.proj.bias", "tower/patch_embed/bias", width))
    if model.ln_pre:
        rows += layer_norm("ln_pre", "tower/norm_pre", width)
    for i in range(model.depth):
        name, path = f"blocks.{i}", f"tower/blocks_{i}"
        rows += _attention_rows(f"{name}.attn", f"{path}/attn", width, width)
        rows += dense(f"{name}.mlp.fc1", f"{path}/mlp/fc1", width, hidden)
        rows += dense(f"{name}.mlp.fc2", f"{path}/mlp/fc2", hidden, width)
        for norm in ("norm1", "norm2"):
            rows += layer_norm(f"{name}.{norm}", f"{path}/{norm}", width)
    return [row.within(_BACKBONE) for row in rows]


def decoder_rows(model: Evl) -> list[Row]:
    """The tensors of decoder and head."""
    width, hidden = model.width, round(model.width * model.decoder_mlp_ratio)
    spans = tuple(2 * side - 1 for side in model.grid)
    rows = [vector("decoder.cls_token", "decoder/cls_token", width)]
    for i in range(model.decoder_layers):
        name, path = f"decoder.decoder_layers.{i}", f"decoder/layers_{i}"
        rows += _attention_rows(f"{name}.attn", f"{path}/attn", width, model.qkv_width)
        rows += dense(f"{name}.mlp.fc1", f"{path}/fc1", width, hidden)
        rows += dense(f"{name}.mlp.fc2", f"{path}/fc2", hidden, width)
        for norm in ("norm1", "norm2", "norm3"):
            rows += layer_norm(f"{name}.{norm}", f"{path}/{norm}", width)
        temporal = f"{path}/temporal"
        if model.temporal_conv:
            name = f"decoder.temporal_conv.{i}"
            rows.append(Row(f"{name}.weight", (width, 1, 3), (f"{temporal}/conv/kernel",), _CONV))
            rows.append(vector(f"{name}.bias", f"{temporal}/conv/bias", width))
        if model.temporal_position:
            name, shape = f"decoder.temporal_pos_embed.{i}", (model.num_frames, width)
            rows.append(Row(name, shape, (f"{temporal}/position",)))
        if model.temporal_attention:
            rows += [
                Row(f"decoder.cross_attention.{i}.{w}", (math.prod(spans), width),
                    (f"{temporal}/cross_attention/{w}",), _offsets(spans))
                for w in ("w1", "w2")
            ]  # fmt: skip
    return [
        *rows,
        *layer_norm("proj.0", "norm", width),
        *dense("proj.2", "head", width, model.num_classes),
    ]


def _attention_rows(name: str, path: str, width: int, inner: int) -> list[Row]:
    rows = dense(f"{name}.out_proj", f"{path}/out", inner, width)
    for part in "qkv":
        rows.append(kernel(f"{name}.{part}_proj.weight", f"{path}/{part}", width, inner))
        rows.append(vector(f"{name}.{part}_proj.bias", f"{path}/{part}/bias", inner))
    return rows
