"""The table of AVION's state dict, under the names without flash attention."""

from fluxjax.convert.avion_names import TEXTUAL, VISUAL
from fluxjax.convert.clip_rows import block_rows, encoder_rows
from fluxjax.convert.mapping import Row, dense, layer_norm, vector
from fluxjax.models.avion import Avion

HEAD = ("fc_cls.weight", "fc_cls.bias")


def rows_of(model: Avion) -> list[Row]:
    """The tensors of a dual encoder, a classifier, or a tower without projection."""
    rows = [row.within(VISUAL) for row in _vision_rows(model)]
    if model.num_classes is not None:
        return rows + dense("fc_cls", "head", model.width, model.num_classes)
    if model.embedding is None:
        return rows
    projection = (model.width, model.embedding)
    rows.append(Row(f"{VISUAL}image_projection", projection, ("proj/kernel",)))
    rows += [row.within(TEXTUAL) for row in _text_rows(model)]
    return [*rows, Row("logit_scale", (), ("logit_scale",))]


def _vision_rows(model: Avion) -> list[Row]:
    rows = encoder_rows(model, (model.width, 3 * model.patch**2))
    if model.num_frames > 1:
        shape = (model.num_frames, model.width)
        rows.append(Row("temporal_embedding", shape, ("tower/temporal_table",)))
    if model.layer_scale:  # the reference's fails; the names are open_clip's
        rows += [
            vector(f"transformer.resblocks.{i}.ls_{n}.gamma", f"tower/blocks_{i}/ls{n}/gamma",
                   model.width)
            for i in range(model.depth) for n in (1, 2)
        ]  # fmt: skip
    return rows


def _text_rows(model: Avion) -> list[Row]:
    width, hidden = model.text_width, round(model.text_width * model.mlp_ratio)
    rows = [
        Row("positional_embedding", (model.context_length, width), ("text/position_table",)),
        Row(
            "token_embedding.weight", (model.vocab_size, width), ("text/token_embedding/embedding",)
        ),
        Row("text_projection", (width, model.embedding), ("text/proj/kernel",)),
    ]  # fmt: skip
    for i in range(model.text_depth):
        rows += block_rows(f"transformer.resblocks.{i}", f"text/blocks_{i}", width, hidden)
    return rows + layer_norm("ln_final", "text/norm", width)
