"""BERT weights <-> `fluxjax.models.bert.Bert`: plain ones, and the text encoders inside UMT.

Source: names and shapes of transformers' BertModel and BertForMaskedLM, and of ALBEF's xbert with
its `crossattention`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert import shapes
from fluxjax.convert.mapping import Row, as_float32, dense, layer_norm, vector
from fluxjax.convert.untold import Untold, checked_heads
from fluxjax.models.bert import Bert
from fluxjax.weight_files.errors import WeightsError

RELEASED_HEADS = {768: 12, 1024: 16}  # width -> heads: BERT base and large
# What is no weight, and the heads of next-sentence prediction, which nothing here has.
_LEFT_OUT = re.compile(r"(.*\.)?(pooler\.|cls\.seq_relationship\.)|.*position_ids$")
_OLD_NORM = re.compile(r"(.*LayerNorm)\.(gamma|beta)$")
_LAYER = r"(?:encoder\.)?layer\.(\d+)\."
_PREDICTIONS = "cls.predictions."


def bert_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """One BERT's tensors as transformers names them today, without "bert." and what is no weight.

    Of the two copies that are tied, word embeddings and output matrix, a file may hold one.

    Raises:
      WeightsError: if tied tensors differ.
    """
    named = {}
    for name, value in state.items():
        if _LEFT_OUT.match(name):
            continue
        if old := _OLD_NORM.match(name):
            name = f"{old[1]}.{'weight' if old[2] == 'gamma' else 'bias'}"
        name = name.removeprefix("bert.")
        named[f"encoder.{name}" if name.startswith("layer.") else name] = value
    if not any(name.startswith(_PREDICTIONS) for name in named):
        return named
    tied = {
        f"{_PREDICTIONS}decoder.weight": "embeddings.word_embeddings.weight",
        f"{_PREDICTIONS}decoder.bias": f"{_PREDICTIONS}bias",
    }
    for copy, original in tied.items():
        if copy not in named and original in named:
            named[copy] = named[original]
        elif copy in named and original in named:
            one, other = as_float32(named[copy]), as_float32(named[original])
            if not np.array_equal(one, other):
                raise WeightsError(f"{copy!r} and {original!r} differ; both must be one tensor")
    return named


def fields_of(state: Mapping[str, Any], what: str, untold: Untold, keyword: str, heads: int | None):
    """The fields of the `Bert` that a state of `bert_state` belongs to."""
    width = shapes.infer(state, what, (r"embeddings\..*weight", -1), (_LAYER + ".*norm.*", 0))
    depth = shapes.count(state, _LAYER)
    crossing = [re.match(_LAYER + r"crossattention\.", name) for name in state]
    crossing = [int(match[1]) for match in crossing if match]
    heads = untold.choose(keyword, heads, released=RELEASED_HEADS.get(width))
    untold.known("epsilon of text", 1e-12, "the official code")
    embeddings = r"embeddings\.{}_embeddings\.weight"
    return {
        "vocabulary": shapes.infer(state, what, (embeddings.format("word"), 0)),
        "width": width,
        "depth": depth,
        "num_heads": checked_heads(keyword, width, heads),
        "hidden": shapes.infer(state, what, (_LAYER + r"intermediate\.dense\.(weight|bias)", 0)),
        "max_length": shapes.infer(state, what, (embeddings.format("position"), 0)),
        "fusion_layer": min(crossing, default=None),
        "token_head": any(name.startswith(_PREDICTIONS) for name in state),
    }


def rows_of(model: Bert, path: str = "", video_width: int | None = None) -> list[Row]:
    """The table of a BERT's state dict, of names as `bert_state` gives them.

    Args:
      model: whose tensors.
      path: of its parameters, "" or ending in "/".
      video_width: of what the layers with cross-attention attend to; None: the model's own.
    """
    width, other = model.width, video_width or model.width
    rows = [
        *_embedding("word", f"{path}words", model.vocabulary, width),
        *_embedding("position", f"{path}places", model.max_length, width),
        *_embedding("token_type", f"{path}types", 2, width),
        *layer_norm("embeddings.LayerNorm", f"{path}norm", width),
    ]
    for i in range(model.depth):
        name, own = f"encoder.layer.{i}", f"{path}layers_{i}"
        rows += _attention_rows(f"{name}.attention", f"{own}/attn", width, width)
        if i >= model.text_layers:
            rows += _attention_rows(f"{name}.crossattention", f"{own}/cross", width, other)
        rows += [
            *dense(f"{name}.intermediate.dense", f"{own}/fc1", width, model.hidden),
            *dense(f"{name}.output.dense", f"{own}/fc2", model.hidden, width),
            *layer_norm(f"{name}.output.LayerNorm", f"{own}/norm", width),
        ]
    if model.token_head:
        head, words = _PREDICTIONS, (model.vocabulary, width)
        rows += [
            *dense(f"{head}transform.dense", f"{path}transform", width, width),
            *layer_norm(f"{head}transform.LayerNorm", f"{path}transform_norm", width),
            vector(f"{head}bias", f"{path}token_bias", model.vocabulary),
            vector(f"{head}decoder.bias", f"{path}token_bias", model.vocabulary),
            Row(f"{head}decoder.weight", words, (f"{path}words/embedding",)),
        ]
    return rows


def official(row: Row) -> Row:
    """A row of a model with token head: everything but the head is under "bert."."""
    return row if row.name.startswith(_PREDICTIONS) else row.within("bert.")


def _embedding(name: str, path: str, rows: int, width: int) -> list[Row]:
    return [Row(f"embeddings.{name}_embeddings.weight", (rows, width), (f"{path}/embedding",))]


def _attention_rows(name: str, path: str, width: int, other: int) -> list[Row]:
    return [
        *dense(f"{name}.self.query", f"{path}/query", width, width),
        *dense(f"{name}.self.key", f"{path}/key", other, width),
        *dense(f"{name}.self.value", f"{path}/value", other, width),
        *dense(f"{name}.output.dense", f"{path}/out", width, width),
        *layer_norm(f"{name}.output.LayerNorm", f"{path}/norm", width),
    ]
