"""Official PyTorch weights in, official PyTorch names out: `load_torch` and `to_torch`."""

import difflib
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from fluxjax.checkpoints.usage import Usage
from fluxjax.convert import (
    avion,
    avion_rows,
    clip,
    clip_rows,
    evl,
    ffn,
    fluxvit,
    internvideo2,
    umt,
    umt_rows,
    videomae,
)
from fluxjax.convert.mapping import to_state
from fluxjax.convert.states import state_of
from fluxjax.models.avion import Avion
from fluxjax.models.bert import Bert
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.evl import Evl
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.models.students import InternVideo2Student
from fluxjax.models.umt import Umt
from fluxjax.models.umt_vision import UmtClassifier, UmtVision
from fluxjax.models.videomae import VideoMae
from fluxjax.models.videomae_pretraining import VideoMaePretraining

FAMILIES = {
    "avion": avion,
    "clip": clip,
    "evl": evl,
    "ffn": ffn,
    "fluxvit": fluxvit,
    "internvideo2": internvideo2,
    "umt": umt,
    "videomae": videomae,
}
_TABLES = {
    **ffn.TABLES,
    Avion: avion_rows.rows_of,
    Bert: umt_rows.rows_of,
    ClipImage: clip_rows.rows_of,
    Evl: evl.rows_of,
    FluxViT: fluxvit.rows_of,
    InternVideo2: internvideo2.rows_of,
    InternVideo2Student: internvideo2.rows_of,
    Umt: umt_rows.rows_of,
    UmtClassifier: umt_rows.rows_of,
    UmtVision: umt_rows.rows_of,
    VideoMae: videomae.rows_of,
    VideoMaePretraining: videomae.rows_of,
}


def load_torch(
    family: str, weights: str | os.PathLike | Mapping[str, Any], **overrides: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Loads official weights; the architecture is inferred from their shapes.

    Args:
      family: "avion", "clip", "evl", "ffn", "fluxvit", "internvideo2", "umt" or "videomae".
      weights: path of a .pth, .pt, .bin, .safetensors or .npz file, of the index, the folder or a
        shard of weights in several files, or a mapping of the torch names to arrays. Wrappers
        ("module", "model", ..) and prefixes ("backbone.", ..) are handled.
      **overrides: what shapes cannot tell, and changes asked for: num_heads, num_frames,
        image_size, pool_num_heads, gelu, num_classes, label_map, head_key, grid, student, and
        fields of the model such as dtype. `load` in `fluxjax.convert.avion`, `.clip`, `.evl`,
        `.ffn_2d`, `.ffn_3d`, `.fluxvit`, `.internvideo2`, `.umt` and `.videomae` explains them.

    The log (logger "fluxjax") tells for information where each value that shapes cannot tell comes
    from, and warns of those that are assumed.

    Returns:
      The model and its variables, float32.

    Raises:
      ValueError: on an unknown family, or a keyword that is needed, unknown or contradictory.
      WeightsError: if the file cannot be read safely, or listing all names that are missing,
        unexpected or misshaped.
    """
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown family {family!r}{hint} (known: {sorted(FAMILIES)})")
    source = None if isinstance(weights, Mapping) else weights
    return FAMILIES[family].load(state_of(weights), source, **overrides)


def usage_of(family: str, model: nn.Module) -> Usage | None:
    """How a family's official scripts run a model, where they all do it alike; else None."""
    known = getattr(FAMILIES[family], "usage", None)
    return None if known is None else known(model)


def to_torch(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The official state dict of a model: torch name -> array in torch's layout.

    The exact inverse of `load_torch`: values are moved, never computed with.

    Args:
      model: an Avion, Bert, ClipImage with projection, Evl, FluxViT, InternVideo2 or its student,
        SlowFast, Tea, Tsm, Umt, UmtClassifier, UmtVision, UniFormer, VideoMae or
        VideoMaePretraining.
      variables: of that model.

    Raises:
      ValueError: on a model without official names.
      WeightsError: if the variables are not the model's.
    """
    if type(model) not in _TABLES:
        known = sorted(kind.__name__ for kind in _TABLES)
        raise ValueError(f"{type(model).__name__} has no official weights (known: {known})")
    return to_state(variables, _TABLES[type(model)](model))
