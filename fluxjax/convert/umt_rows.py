"""The tables of UMT's official state dicts.

Source: names and shapes of OpenGVLab/unmasked_teacher (single_modality and multi_modality).
"""

import flax.linen as nn
import numpy as np

from fluxjax.convert import bert
from fluxjax.convert.mapping import Row, dense, folded, kernel, layer_norm, tubelet_rows, vector
from fluxjax.models.bert import Bert
from fluxjax.models.umt import Umt
from fluxjax.models.umt_encoder import UmtFields
from fluxjax.models.umt_vision import UmtClassifier, UmtVision

VISION, TEXT, ANSWERS = "vision_encoder.", "text_encoder.", "text_decoder."


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
    for row in inner_rows(model):
        for prefix, headed in ((TEXT, model.token_head), (ANSWERS, True)):
            if headed and row.name.startswith(prefix):
                row = bert.official(row.without(prefix)).within(prefix)
        official.append(row)
    return official


def inner_rows(model: Umt) -> list[Row]:
    """As `rows_of`, with BERT's names as `bert_state` gives them."""
    width, text = model.width, model.text_width
    vision, encoder = UmtVision(**model.vision_fields), Bert(**model.text_fields)
    rows = [row.within(VISION) for row in _vision_rows(vision, "", "vision/")]
    rows += [row.within(TEXT) for row in bert.rows_of(encoder, "text/", width)]
    if model.answer_layers:
        decoder = Bert(**model.answer_fields)
        rows += [row.within(ANSWERS) for row in bert.rows_of(decoder, "answers/")]
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
