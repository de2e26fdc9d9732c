"""The decoders of InternVideo2's students: distilled models, and those of stage 1.

Source: names and shapes of the state dicts of OpenGVLab/InternVideo, InternVideo2/single_modality.
"""

from collections.abc import Mapping
from typing import Any

from fluxjax.convert import shapes
from fluxjax.convert.mapping import Row, cls_and_table, dense, folded, layer_norm
from fluxjax.models.students import InternVideo2Student, aligned_blocks

# Fields that the shapes tell.
STUDENT_FIELDS = (
    *("taught_layers", "teacher_width", "teacher_final", "hidden", "mae_layers", "mae_width"),
)


def student_fields(state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a student that the shapes of its decoders tell.

    Raises:
      WeightsError: if there are no decoders.
    """
    what = "a student of InternVideo2 (student=True)"
    mae = shapes.count(state, r"mae_decoder\.(\d+)\.")
    return {
        "taught_layers": shapes.count(state, r"clip_decoder\.(\d+)\."),
        "teacher_width": shapes.infer(state, what, (r"clip_decoder\.\d+\.norm\.weight", 0)),
        "teacher_final": len(state.get("final_clip_decoder.norm.weight", ())),
        "hidden": any(name.startswith("clip_decoder.0.head.0.") for name in state),
        "mae_layers": mae,
    } | ({"mae_width": len(state["mae_decoder.0.norm.weight"])} if mae else {})


def student_rows(model: InternVideo2Student) -> list[Row]:
    """Decoders, and their position tables."""
    width, (t, h, w) = model.width, model.grid
    shape, layout = (1, 1 + t * h * w, width), cls_and_table(model.grid)
    paths = ("token_decoders/cls_position", "token_decoders/position_table")
    rows = [Row("clip_pos_embed", shape, paths, layout)]
    kinds = (width, model.teacher_width, model.hidden)
    for k in range(len(aligned_blocks(model))):
        rows += _decoder_rows(f"clip_decoder.{k}", f"token_decoders/decoders_{k}", *kinds)
    if model.teacher_final:
        kinds = (model.pooled, model.teacher_final, model.hidden)
        rows += _decoder_rows("final_clip_decoder", "final_decoder", *kinds)
    if model.mae_layers:
        table, layout = ("mae_decoders/position_table",), folded(t, h, w)
        rows.append(Row("mae_pos_embed", (1, t * h * w, width), table, layout))
    for k in range(model.mae_layers):
        kinds = (width, model.mae_width, True)
        rows += _decoder_rows(f"mae_decoder.{k}", f"mae_decoders/decoders_{k}", *kinds)
    return rows


def _decoder_rows(name: str, path: str, width: int, features: int, hidden: bool) -> list[Row]:
    """A decoder: linear map, or one with a hidden layer; LayerNorm."""
    norm = layer_norm(f"{name}.norm", f"{path}/norm", features)
    if not hidden:
        return dense(f"{name}.head", f"{path}/head", width, features) + norm
    first = dense(f"{name}.head.0", f"{path}/hidden", width, width)
    return first + dense(f"{name}.head.2", f"{path}/head", width, features) + norm
