"""Official UMT weights <-> `Umt`, `UmtVision`, `UmtClassifier`; plain BERT weights <-> `Bert`.

Source: names and shapes of the state dicts of OpenGVLab/unmasked_teacher (single_modality and
multi_modality) and mlvlab/vid-TLDR.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from fluxjax.convert import bert, label_sets, shapes
from fluxjax.convert.mapping import as_float32, to_variables
from fluxjax.convert.umt_rows import ANSWERS, TEXT, VISION, inner_rows, rows_of
from fluxjax.convert.untold import Untold, check_fields, checked_heads
from fluxjax.models.bert import Bert
from fluxjax.models.umt import Umt
from fluxjax.models.umt_encoder import UmtFields
from fluxjax.models.umt_vision import UmtClassifier, UmtVision
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.positions import resampled

# (width, depth) -> heads: S, B, L; the first is our own "ti".
_RELEASED_HEADS = {(64, 4): 4, (384, 12): 6, (768, 12): 12, (1024, 24): 16}
# Rows of a stored position table -> its grid: the fine-tuned models of 224 pixels, 8 to 16 frames.
_RELEASED_GRIDS = {14 * 14 * frames: (frames, 14, 14) for frames in (8, 12, 16)}
_TEACHER = "clip_teacher."
_LAYER_SCALE = 0.1  # any number: loaded values replace it
_ENCODER = (
    "width", "depth", "mlp_ratio", "patch", "tubelet", "layer_scale", "learned_positions",
)  # fmt: skip
_TAUGHT = ("taught_layers", "taught_width")
_INFERRED = {
    Bert: ("vocabulary", "width", "depth", "hidden", "max_length", "fusion_layer", "token_head"),
    UmtClassifier: _ENCODER,
    UmtVision: (*_ENCODER, *_TAUGHT, "num_classes", "pooling_norm"),
    Umt: (
        *_ENCODER, *_TAUGHT, "num_classes", "embedding", "vocabulary", "text_width", "text_depth",
        "text_hidden", "text_length", "fusion_layer", "answer_layers", "token_head",
    ),
}  # fmt: skip


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    text_heads: int | None = None,
    num_frames: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    label_map: Sequence[int] | None = None,
    head_key: jax.Array | None = None,
    **fields: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the model that a state dict of UMT belongs to, and its variables.

    Names tell which: `vision_encoder.*` a `Umt` (retrieval, question answering, pre-training),
    `head.*` a `UmtClassifier`, another encoder a `UmtVision`, BERT's own a `Bert`. A pre-trained
    encoder becomes a classifier with new norm and head if `head_key` asks for it.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      num_heads: of the video encoder (of plain BERT weights: of BERT); default: the released
        model's of that size.
      text_heads: of the text encoder and the answer decoder; default: BERT's of that width.
      num_frames, image_size: of the checkpoint's position table, where it stores one.
      num_classes, label_map, head_key: see `fluxjax.convert.fluxvit.load`.
      **fields: other fields of the model, such as dtype, grid, drop_path or taught_interval.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    state = {name: value for name, value in state.items() if not name.startswith(_TEACHER)}
    kind = _kind(state, head_key)
    check_fields(load, kind, fields, _INFERRED[kind])
    untold = Untold(f"a {kind.__name__}", source=source)
    classes = (num_classes, label_map, head_key)
    if kind is not UmtClassifier and any(option is not None for option in classes):
        raise ValueError("num_classes=, label_map= and head_key= need weights of UMT's encoder")
    if kind is Bert:
        return _bert(bert.bert_state(state), num_heads, fields, untold)
    inside = f"{VISION}encoder." if kind is Umt else ""
    video = {n.removeprefix(inside): v for n, v in state.items() if n.startswith(inside)}
    sizes = _encoder_fields(video, num_heads, num_frames, image_size, untold, kind)
    if kind is UmtClassifier:
        return _classifier(state, classes, {**sizes, **fields}, untold)
    prefix = VISION if kind is Umt else ""
    sizes |= _taught_fields(state, prefix)
    if kind is UmtVision:
        sizes["pooling_norm"] = "pool_norm.weight" in state
        model = UmtVision(**{**sizes, **fields})
        table = [row.without("encoder.") for row in rows_of(model)]
    else:
        state, text = _text_fields(state, text_heads, untold)
        model = Umt(**{**sizes, **text, **fields})
        table = inner_rows(model)
    untold.say()
    return model, to_variables(state, table, untold.what)


def _bert(
    state: Mapping[str, Any], num_heads: int | None, fields: Mapping[str, Any], untold: Untold
) -> tuple[Bert, dict[str, Any]]:
    own = bert.fields_of(state, untold.what, untold, "num_heads", num_heads)
    model = Bert(**own, **fields)
    untold.say()
    return model, to_variables(state, bert.rows_of(model), untold.what)


def _kind(state: Mapping[str, Any], head_key: jax.Array | None) -> type[nn.Module]:
    if any(name.startswith(VISION) for name in state):
        return Umt
    if any(name.startswith(("embeddings.", "layer.", "bert.")) for name in state):
        return Bert
    finetuned = any(name.startswith(("head.", "fc_norm.")) for name in state)
    return UmtClassifier if finetuned or head_key is not None else UmtVision


def _encoder_fields(
    state: Mapping[str, Any],
    num_heads: int | None,
    num_frames: int | None,
    image_size: Any,
    untold: Untold,
    kind: type[nn.Module],
) -> dict[str, Any]:
    """The fields of `UmtFields`, off the shapes of an encoder's tensors and the keywords."""
    width = shapes.infer(
        state, untold.what, (r"blocks\.\d+\.norm[12]\..*", 0), (r"patch_embed\.proj\.bias", 0)
    )
    hidden = shapes.infer(state, untold.what, (r"blocks\.\d+\.mlp\.fc1\.(weight|bias)", 0))
    depth = shapes.count(state, r"blocks\.(\d+)\.")
    shape = np.shape(state.get("patch_embed.proj.weight", ()))
    tubelet, patch = shape[2:4] if len(shape) == 5 else (UmtFields.tubelet, UmtFields.patch)
    released = _RELEASED_HEADS.get((width, depth))
    heads = untold.choose("num_heads", num_heads, released=released)
    untold.known("pixels", UmtFields.pixels, "the official recipe")
    learned = len(np.shape(state.get("pos_embed", ()))) == 3
    grid = None
    if learned:
        frames = None if num_frames is None else num_frames // tubelet
        grid = _stored_grid(state["pos_embed"], patch, frames, image_size, untold)
    elif kind is UmtClassifier:
        grid = untold.known("grid", _pretraining_grid(patch), "as released")
    return {
        "width": width,
        "depth": depth,
        "num_heads": checked_heads("num_heads", width, heads),
        "mlp_ratio": shapes.ratio_of(hidden, width),
        "patch": patch,
        "tubelet": tubelet,
        "grid": grid,
        "learned_positions": learned,
        "layer_scale": _LAYER_SCALE if any(n.endswith(".gamma_1") for n in state) else None,
    }


def _pretraining_grid(patch: int) -> tuple[int, int, int]:
    """What the positions of classifiers are resampled from: 1568 rows, or 2048 of patch 14."""
    return (8, 16, 16) if patch == 14 else (8, 14, 14)


def _stored_grid(
    table: Any, patch: int, frames: int | None, image_size: Any, untold: Untold
) -> tuple[int, int, int]:
    """Off the keywords; without them off the values, which official training never changes."""
    rows = np.shape(table)[1]
    if frames is None and image_size is None:
        start = _pretraining_grid(patch)
        codes = flat_sincos(np.shape(table)[2], math.prod(start)).reshape(*start, -1)
        for side in range(1, math.isqrt(rows) + 1):
            grid = (rows // side**2, side, side)
            if math.prod(grid) == rows:
                made = np.asarray(resampled(codes, grid)).reshape(rows, -1)
                if np.allclose(made, as_float32(table)[0], atol=1e-4):
                    return untold.known("grid", grid, "its values are those resampled to it")
    return shapes.grid_of(rows, patch, frames, image_size, _RELEASED_GRIDS, untold)


def _taught_fields(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    decoder = re.escape(prefix) + r"clip_decoder\."
    count = shapes.count(state, decoder + r"(\d+)\.")
    if not count:
        return {}
    width = shapes.infer(state, "a student", (decoder + r"\d+\.norm\.(weight|bias)", 0))
    return {"taught_layers": count, "taught_width": width}


def _text_fields(
    state: Mapping[str, Any], text_heads: int | None, untold: Untold
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state with BERT's names as `bert_state` gives them, and the fields of the text."""
    whole = {n: v for n, v in state.items() if not n.startswith((TEXT, ANSWERS))}
    parts = {}
    for prefix in (TEXT, ANSWERS):
        inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        parts[prefix] = bert.bert_state(inside)
        whole |= {prefix + name: value for name, value in parts[prefix].items()}
    text = bert.fields_of(parts[TEXT], untold.what, untold, "text_heads", text_heads)
    embedding = np.shape(state.get("vision_proj.weight", ()))
    fields = {
        "embedding": embedding[0] if len(embedding) == 2 else None,
        "vocabulary": text["vocabulary"],
        "text_width": text["width"],
        "text_depth": text["depth"],
        "text_heads": text["num_heads"],
        "text_hidden": text["hidden"],
        "text_length": text["max_length"],
        "fusion_layer": text["depth"] if text["fusion_layer"] is None else text["fusion_layer"],
        "token_head": text["token_head"],
        "answer_layers": shapes.count(parts[ANSWERS], r"encoder\.layer\.(\d+)\."),
    }
    return whole, fields


def _classifier(
    state: Mapping[str, Any], classes: tuple[Any, Any, Any], fields: dict[str, Any], untold: Untold
) -> tuple[UmtClassifier, dict[str, Any]]:
    """A classifier; with a key for new heads from pre-trained weights, too."""
    num_classes, label_map, head_key = classes
    state, num_classes = label_sets.heads_for(
        state, ("head.weight", "head.bias"), num_classes, label_map, head_key
    )
    model = UmtClassifier(**fields, num_classes=num_classes)
    table, drawn = rows_of(model), {}
    if head_key is not None:
        # The official loader, too, drops what pre-training has after the blocks.
        state = {n: v for n, v in state.items() if not n.startswith(("norm.", "clip_decoder."))}
        new = [row for row in table if row.name.startswith(("head.", "fc_norm."))]
        new = [row for row in new if row.name not in state]
        drawn = label_sets.new_parameters(new, head_key, std=0.02 * 0.001)
        table = [row for row in table if row not in new]
    untold.say()
    return model, to_variables(state, table, untold.what, drawn)
