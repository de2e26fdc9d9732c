"""Official UMT weights <-> `Umt`, `UmtVision`, `UmtClassifier`; plain BERT weights <-> `Bert`.

Source: names and shapes of the state dicts of OpenGVLab/unmasked_teacher (single_modality and
multi_modality) and mlvlab/vid-TLDR.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from fluxjax.convert import bert, label_sets, shapes
from fluxjax.convert.mapping import (
    Row,
    dense,
    folded,
    kernel,
    layer_norm,
    to_variables,
    tubelet_rows,
    vector,
)
from fluxjax.convert.untold import Untold, check_fields, checked_heads
from fluxjax.models.bert import Bert
from fluxjax.models.umt import Umt
from fluxjax.models.umt_encoder import UmtFields
from fluxjax.models.umt_vision import UmtClassifier, UmtVision

# (width, depth) -> heads: S, B, L; the first is our own "ti".
_RELEASED_HEADS = {(64, 4): 4, (384, 12): 6, (768, 12): 12, (1024, 24): 16}
# Rows of a stored position table -> its grid: the fine-tuned models of 224 pixels, 8 to 16 frames.
_RELEASED_GRIDS = {14 * 14 * frames: (frames, 14, 14) for frames in (8, 12, 16)}
_VISION, _TEXT, _ANSWERS = "vision_encoder.", "text_encoder.", "text_decoder."
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
        state = bert.bert_state(state)
        model = Bert(**bert.fields_of(state, "a BERT", untold, "num_heads", num_heads), **fields)
        untold.say()
        return model, to_variables(state, bert.rows_of(model), "a BERT")
    inside = f"{_VISION}encoder." if kind is Umt else ""
    video = {n.removeprefix(inside): v for n, v in state.items() if n.startswith(inside)}
    sizes = _encoder_fields(video, num_heads, num_frames, image_size, untold, kind)
    if kind is UmtClassifier:
        return _classifier(state, classes, {**sizes, **fields}, untold)
    prefix = _VISION if kind is Umt else ""
    sizes |= _taught_fields(state, prefix)
    if kind is UmtVision:
        sizes["pooling_norm"] = "pool_norm.weight" in state
        model = UmtVision(**{**sizes, **fields})
        table = [row.without("encoder.") for row in rows_of(model)]
    else:
        state, text = _text_fields(state, text_heads, untold)
        model = Umt(**{**sizes, **text, **fields})
        table = _umt_rows(model)
    untold.say()
    return model, to_variables(state, table, untold.what)


def _kind(state: Mapping[str, Any], head_key: jax.Array | None) -> type[nn.Module]:
    if any(name.startswith(_VISION) for name in state):
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
        rows = np.shape(state["pos_embed"])[1]
        frames = None if num_frames is None else num_frames // tubelet
        grid = shapes.grid_of(rows, patch, frames, image_size, _RELEASED_GRIDS, untold)
    elif kind is UmtClassifier:
        # Resampled from the grid of pre-training: 1568 rows, with patches of 14 pixels 2048.
        grid = untold.known("grid", (8, 16, 16) if patch == 14 else (8, 14, 14), "as released")
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
    whole = {n: v for n, v in state.items() if not n.startswith((_TEXT, _ANSWERS))}
    parts = {}
    for prefix in (_TEXT, _ANSWERS):
        inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        parts[prefix] = bert.bert_state(inside)
        whole |= {prefix + name: value for name, value in parts[prefix].items()}
    text = bert.fields_of(parts[_TEXT], untold.what, untold, "text_heads", text_heads)
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
        "answer_layers": shapes.count(parts[_ANSWERS], r"encoder\.layer\.(\d+)\."),
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


def rows_of(model: nn.Module) -> list[Row]:
    """The table of the official state dict of a `UmtClassifier`, `UmtVision`, `Umt` or `Bert`."""
    if isinstance(model, Bert):
        rows = bert.rows_of(model)
        return [bert.official(row) for row in rows] if model.token_head else rows
    if isinstance(model, UmtClassifier):
        rows = _encoder_rows(model, "", "encoder")
        rows += layer_norm("fc_norm", "fc_norm", model.width)
        if model.num_classes is not None:
            rows += dense("head", "head", model.width, model.num_classes)
        return rows
    if isinstance(model, UmtVision):
        return _vision_rows(model, "", "")
    official = []
    for row in _umt_rows(model):
        for prefix, headed in ((_TEXT, model.token_head), (_ANSWERS, True)):
            if headed and row.name.startswith(prefix):
                row = bert.official(row.without(prefix)).within(prefix)
        official.append(row)
    return official


def _umt_rows(model: Umt) -> list[Row]:
    """As `rows_of`, with BERT's names as `bert_state` gives them."""
    width, text = model.width, model.text_width
    vision, encoder = UmtVision(**model.vision_fields), Bert(**model.text_fields)
    rows = [row.within(_VISION) for row in _vision_rows(vision, "", "vision/")]
    rows += [row.within(_TEXT) for row in bert.rows_of(encoder, "text/", width)]
    if model.answer_layers:
        decoder = Bert(**model.answer_fields)
        rows += [row.within(_ANSWERS) for row in bert.rows_of(decoder, "answers/")]
    if model.embedding is not None:
        rows += [
            *dense("vision_proj", "vision_proj", width, model.embedding),
            *dense("text_proj", "text_proj", text, model.embedding),
            *dense("itm_head", "match_head", text, 2),
            Row("temp", (), ("temperature",)),
        ]
    return rows


def _vision_rows(model: UmtVision, name: str, path: str) -> list[Row]:
    rows = _encoder_rows(model, f"{name}encoder.", f"{path}encoder")
    rows += layer_norm(f"{name}encoder.norm", f"{path}norm", model.width)
    if model.pooling_norm:
        rows += layer_norm(f"{name}pool_norm", f"{path}pool_norm", model.width)
    for k in range(model.taught_layers):
        decoder, own = f"{name}clip_decoder.{k}", f"{path}decoders_{k}"
        rows += dense(f"{decoder}.head", f"{own}/head", model.width, model.taught_width)
        rows += layer_norm(f"{decoder}.norm", f"{own}/norm", model.taught_width)
    return rows


def _encoder_rows(model: UmtFields, name: str, path: str) -> list[Row]:
    width, hidden = model.width, int(model.width * model.mlp_ratio)
    rows = tubelet_rows(
        f"{name}patch_embed.proj", f"{path}/patch_embed", width, model.tubelet, model.patch
    )
    if model.learned_positions:
        shape = (1, int(np.prod(model.grid)), width)
        table = f"{path}/position_table"
        rows.append(Row(f"{name}pos_embed", shape, (table,), folded(*model.grid)))
    for i in range(model.depth):
        block, own = f"{name}blocks.{i}", f"{path}/blocks_{i}"
        rows += [
            *layer_norm(f"{block}.norm1", f"{own}/norm1", width),
            vector(f"{block}.attn.q_bias", f"{own}/attn/q_bias", width),
            vector(f"{block}.attn.v_bias", f"{own}/attn/v_bias", width),
            kernel(f"{block}.attn.qkv.weight", f"{own}/attn/qkv", width, 3 * width),
            *dense(f"{block}.attn.proj", f"{own}/attn/proj", width, width),
            *layer_norm(f"{block}.norm2", f"{own}/norm2", width),
            *dense(f"{block}.mlp.fc1", f"{own}/mlp/fc1", width, hidden),
            *dense(f"{block}.mlp.fc2", f"{own}/mlp/fc2", hidden, width),
        ]
        if model.layer_scale:
            rows += [vector(f"{block}.gamma_{j}", f"{own}/ls{j}/gamma", width) for j in (1, 2)]
    return rows
