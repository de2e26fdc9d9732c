"""Parts of AVION's state dicts that change with frames, texts, classes, and when CLIP is inflated.

Sources: the official repository, avion/models/utils.py and model_clip.py, and its scripts'
`--resume`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.convert.mapping import as_float32
from fluxjax.models.avion import INITIAL_LOGIT_SCALE
from fluxjax.tokens.positions import linear_matrix

TEMPORAL = ("finetune", "nearest", "resume")
_TIME, _PROJECTION = "visual.temporal_embedding", "visual.image_projection"
_TEXT, _TOKENS = "textual.positional_embedding", "textual.token_embedding.weight"
_TEXT_PROJECTION = "textual.text_projection"
_HEAD_STD = 0.01


def inflated(
    state: Mapping[str, Any], frames: int, embedding: int | None, key: jax.Array | None
) -> dict[str, Any]:
    """CLIP's tensors under AVION's names with what a video model has besides.

    Every frame begins as an image: the temporal table is zero.

    Args:
      state: see `avion_names.plain_state`.
      frames: rows of the temporal table; 1: there is none.
      embedding: width of new projections, with the initial temperature, as the reference has them;
        None: CLIP's own.
      key: draws these.
    """
    state = dict(state)
    if frames > 1:
        width = np.shape(state["visual.class_embedding"])[0]
        state[_TIME] = np.zeros((frames, width), np.float32)
    if embedding is not None:
        generator = _generator(jax.random.key(0) if key is None else key)
        for name in (_PROJECTION, _TEXT_PROJECTION):
            if name in state:
                width = len(state[name])
                normal = generator.standard_normal((width, embedding), np.float32)
                state[name] = normal * np.float32(width**-0.5)
        state["logit_scale"] = np.float32(INITIAL_LOGIT_SCALE)
    return state


def with_new_head(state: Mapping[str, Any], num_classes: int, key: jax.Array) -> dict[str, Any]:
    """The video tower's tensors and a new head [num_classes, C]."""
    state = {name: value for name, value in state.items() if name.startswith("visual.")}
    shape = (num_classes, np.shape(state["visual.class_embedding"])[0])
    normal = _generator(key).standard_normal(shape, np.float32)
    return state | {
        "fc_cls.weight": np.float32(_HEAD_STD) * normal,
        "fc_cls.bias": np.zeros(num_classes, np.float32),
    }


def resized(
    state: Mapping[str, Any],
    frames: int | None,
    temporal: str,
    context: int | None,
    vocabulary: int | None,
) -> dict[str, Any]:
    """The state dict for another number of frames, text length or vocabulary; None: as stored.

    Raises:
      ValueError: on sizes that cannot be.
    """
    state = dict(state)
    if temporal not in TEMPORAL:
        raise ValueError(f"temporal={temporal!r} is unknown; choose one of {TEMPORAL}")
    if frames is not None:
        if frames < 2 and _TIME in state:
            raise ValueError(
                f"num_frames={frames}: a video model keeps at least 2; pass it images as they are"
            )
        if frames > 1:
            width = np.shape(state["visual.class_embedding"])[0]
            table = as_float32(state.get(_TIME, np.zeros((1, width))))
            state[_TIME] = temporal_table(table, frames, temporal)
    if context is not None:
        state[_TEXT] = _rows(as_float32(state[_TEXT]), context)
    if vocabulary is not None:
        stored = np.shape(state[_TOKENS])[0]
        if vocabulary < stored:
            raise ValueError(f"vocab_size={vocabulary} must be at least the stored {stored}")
        state[_TOKENS] = _rows(as_float32(state[_TOKENS]), vocabulary)
    return state


def temporal_table(table: np.ndarray, frames: int, how: str) -> np.ndarray:
    """A temporal table [T, C] for another number of frames, [frames, C].

    Args:
      table: as stored.
      frames: wanted.
      how: "finetune" interpolates linearly for more frames and keeps the first rows for fewer;
        "nearest" repeats rows for more and keeps the first for fewer; "resume" interpolates
        linearly for either.
    """
    stored = len(table)
    if frames == stored or (how != "resume" and frames < stored):
        return table[:frames]
    if how == "nearest":
        return table[np.arange(frames) * stored // frames]
    matrix = np.asarray(linear_matrix(frames, jnp.int32(frames), stored), np.float64)
    return np.float32(matrix @ table)


def _rows(table: np.ndarray, rows: int) -> np.ndarray:
    """A table [N, C] cut to `rows`, or filled with zeros."""
    return np.pad(table[:rows], ((0, max(rows - len(table), 0)), (0, 0)))


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
