"""AVION's weights <-> `Avion`; CLIP's, of images and text, are inflated to video.

Sources: names and shapes of the official repository zhaoyue-zephyrus/AVION and of openai/CLIP.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fluxjax.checkpoints.usage import Usage
from fluxjax.convert import avion_args, clip_configs, shapes
from fluxjax.convert.avion_names import is_clip, plain_state
from fluxjax.convert.avion_rows import HEAD, rows_of
from fluxjax.convert.avion_tables import New, prepared
from fluxjax.convert.clip import RELEASED_HEADS, on_grid
from fluxjax.convert.mapping import Row, to_variables
from fluxjax.convert.untold import Told, Untold, check_fields, checked_gelu, checked_heads
from fluxjax.models.avion import AVION_PIXELS, INITIAL_LOGIT_SCALE, Avion
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.tokens import CLIP_PIXELS

_INFERRED = (
    "width", "depth", "mlp_ratio", "patch", "ln_pre", "patch_bias", "layer_scale", "text_width",
    "text_depth",
)  # fmt: skip
# Text width -> heads: of 64 channels in all CLIPs; the first is our own "ti".
_TEXT_HEADS = {64: 4, 512: 8, 640: 10, 768: 12, 1024: 16, 1280: 20}
_CLIP_GELU = "OpenAI's weights and open_clip's -quickgelu have quick, open_clip's others exact"


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    text_heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    num_frames: int | None = None,
    temporal: str = "finetune",
    context_length: int | None = None,
    vocab_size: int | None = None,
    embedding: int | str | None = None,
    num_classes: int | None = None,
    head_key: jax.Array | None = None,
    grid: tuple[int, int] | None = None,
    **fields: Any,
) -> tuple[Avion, dict[str, Any]]:
    """Builds the model that a state dict belongs to, and its variables.

    The state dict is AVION's dual encoder or classifier, or CLIP's, which is inflated as AVION
    does it; or one tower alone, and then the model's other tower has no variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from; the arguments in it tell what shapes do not.
      num_heads, text_heads: of the towers.
      image_size: pixels a side, or (height, width), of the checkpoint; default: square.
      num_frames: rows of the temporal table; default: as stored, or 4 for CLIP's weights. The
        model runs on any number of frames in either case.
      temporal: how another number comes about, see `avion_tables.temporal_table`.
      context_length, vocab_size: of the text tower; texts are cut, both are filled with zeros.
      embedding: for CLIP's weights: width of new projections, default AVION's 256, or "clip" for
        its own ones and its temperature.
      num_classes: of a new head on the video tower; needs `head_key`.
      head_key: draws a new head, or new projections; without it these have `jax.random.key(0)`.
      grid: resample the position table to this (H, W) in patches; default: as stored.
      **fields: other fields of `Avion`. gelu and epsilon are "exact" and 1e-6 for AVION's weights
        by default, and as CLIP's were trained for these.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    check_fields(load, Avion, fields, _INFERRED)
    new = New(num_frames, temporal, context_length, vocab_size, embedding, num_classes, head_key)
    named = prepared(plain_state(state), is_clip(state), new)
    untold = Untold("CLIP's weights" if is_clip(state) else "AVION's weights",
                    _told(state, named, source), source)  # fmt: skip
    model = _model(named, untold, num_heads, text_heads, image_size, fields, is_clip(state))
    variables = to_variables(named, _rows(model, named), f"{untold.what} of width {model.width}")
    untold.say()
    return on_grid(model, variables, grid)


def usage(model: Avion) -> Usage:
    """Clips as long as the temporal table, spread over a span, one view, as AVION evaluates."""
    grid = Grid(model.num_frames, model.patch * model.grid[0])
    return Usage("uniform", (str(grid),), frames=(model.num_frames,))


def _model(
    named: Mapping[str, Any],
    untold: Untold,
    num_heads: int | None,
    text_heads: int | None,
    image_size: Any,
    fields: Mapping[str, Any],
    clip: bool,
) -> Avion:
    head = _shape(named, HEAD[0], (None, 0))
    sizes = _vision_fields(named, untold, num_heads, image_size)
    sizes |= _text_fields(named, untold, text_heads)
    return Avion(num_classes=head[0], **sizes, **_choices(untold, clip, fields))


def _rows(model: Avion, named: dict[str, Any]) -> list[Row]:
    """The tensors of the towers that there are; a tower alone gets the initial temperature."""
    parts = {name.split(".")[0] for name in named}
    rows = rows_of(model)
    if not {"visual", "textual"} <= parts and any(row.name == "logit_scale" for row in rows):
        named.setdefault("logit_scale", np.float32(INITIAL_LOGIT_SCALE))
    parts |= {"logit_scale", "fc_cls"}
    return [row for row in rows if row.name.split(".")[0] in parts]


def _told(state: Mapping[str, Any], named: Mapping[str, Any], source: Any) -> dict[str, Told]:
    """What is known besides the shapes: of CLIP by what lies beside it, else by the arguments."""
    (width,) = _shape(named, "visual.class_embedding", (0,))
    if is_clip(state):
        depth = shapes.count(named, r"visual\.transformer\.resblocks\.(\d+)\.")
        told = clip_configs.told_of(state, source, width, depth)
        return {name: told[name] for name in told if name not in ("image_size", "pooling")}
    text_width = _shape(named, "textual.token_embedding.weight", (0, 0))[1]
    return avion_args.told_of(source, width, text_width)


def _vision_fields(
    state: Mapping[str, Any], untold: Untold, num_heads: int | None, image_size: Any
) -> dict[str, Any]:
    """Fields of the video tower; {} without one."""
    if not any(name.startswith("visual.") for name in state):
        return {}
    block = r"visual\.transformer\.resblocks\.\d+\.mlp\.c_fc\.(weight|bias)"
    norms = r"visual\.ln_(pre|post)\.weight"
    width = shapes.infer(state, untold.what, ("visual.class_embedding", 0), (norms, 0))
    depth = shapes.count(state, r"visual\.transformer\.resblocks\.(\d+)\.")
    heads = untold.choose("num_heads", num_heads, released=RELEASED_HEADS.get((width, depth)))
    patch = math.isqrt(_shape(state, "visual.conv1.weight", (0, 768))[1] // 3)
    rows = _shape(state, "visual.positional_embedding", (1, 0))[0] - 1
    scaled = any(name.endswith(".ls_1.gamma") for name in state)
    return {
        "width": width,
        "depth": depth,
        "num_heads": checked_heads("num_heads", width, heads),
        "mlp_ratio": shapes.infer(state, untold.what, (block, 0)) / width,
        "patch": patch,
        "grid": shapes.square_grid_of(rows, patch, image_size, untold),
        "ln_pre": any(name.startswith("visual.ln_pre.") for name in state),
        "patch_bias": "visual.conv1.bias" in state,
        "num_frames": _shape(state, "visual.temporal_embedding", (1, 0))[0],
        "layer_scale": 1.0 if scaled else None,
        "embedding": _shape(state, "visual.image_projection", (0, None))[1],
    }


def _text_fields(
    state: Mapping[str, Any], untold: Untold, text_heads: int | None
) -> dict[str, Any]:
    """Fields of the text tower; {} without one."""
    if not any(name.startswith("textual.") for name in state):
        untold.known("text tower", None, "not in the weights")
        return {}
    tokens = (r"textual\.token_embedding\.weight", 1)
    width = shapes.infer(state, untold.what, tokens, (r"textual\.ln_final\.weight", 0))
    heads = untold.choose("text_heads", text_heads, released=_TEXT_HEADS.get(width))
    projection = _shape(state, "textual.text_projection", (0, None))
    return {
        "text_width": width,
        "text_depth": shapes.count(state, r"textual\.transformer\.resblocks\.(\d+)\."),
        "text_heads": checked_heads("text_heads", width, heads),
        "vocab_size": shapes.infer(state, untold.what, (tokens[0], 0)),
        "context_length": _shape(state, "textual.positional_embedding", (77, 0))[0],
        "embedding": projection[1],
    }


def _shape(state: Mapping[str, Any], name: str, absent: tuple) -> tuple:
    return np.shape(state[name]) if name in state else absent


def _choices(untold: Untold, clip: bool, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that no shape tells."""
    released = {
        "gelu": None if clip else "exact",
        "epsilon": 1e-5 if clip else 1e-6,
        "pixels": CLIP_PIXELS if clip else AVION_PIXELS,
        "causal": True,
        "train_temperature": True,
    }
    chosen = {
        name: untold.choose(name, fields.get(name), released=value, assumed="quick", why=_CLIP_GELU)
        for name, value in released.items()
    }  # only CLIP's GELU may have to be assumed
    checked_gelu("gelu", chosen["gelu"])
    return {**fields, **chosen}
