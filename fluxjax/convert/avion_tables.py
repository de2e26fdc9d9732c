"""Parts of AVION's state dicts that change with frames, texts, classes, and when CLIP is inflated.

Sources: the official repository, avion/models/utils.py and model_clip.py, and its scripts'
`--resume`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
_EMBEDDING = 256


class New(NamedTuple):
    """What a model is to have that its weights have not; None: as they are.

    Attributes: see `fluxjax.convert.avion.load`.
    """

    num_frames: int | None
    temporal: str
    context_length: int | None
    vocab_size: int | None
    embedding: int | str | None
    num_classes: int | None
    head_key: jax.Array | None


def prepared(state: Mapping[str, Any], clip: bool, new: New) -> dict[str, Any]:
    """AVION's state dict of the model that is wanted.

    Args:
      state: see `avion_names.plain_state`.
      clip: whether it is CLIP's: every frame begins as an image, with times of zero.
      new: what is wanted.

    Raises:
      ValueError: on what cannot be.
    """
    if new.embedding is not None and not clip:
        raise ValueError("embedding= is for CLIP's weights: leave it out")
    if new.num_classes is not None and new.head_key is None:
        raise ValueError("num_classes= makes a new head: pass head_key=jax.random.key(..) with it")
    state = _with_tables(state, new._replace(num_frames=new.num_frames or (4 if clip else None)))
    if new.num_classes is not None:
        return _with_head(state, new.num_classes, new.head_key)
    if clip and new.embedding != "clip":
        key = jax.random.key(0) if new.head_key is None else new.head_key
        return _with_projections(state, new.embedding or _EMBEDDING, key)
    if not clip and new.head_key is not None:
        raise ValueError("head_key= draws a new head: pass num_classes= with it")
    return state


def _with_projections(state: dict[str, Any], embedding: int, key: jax.Array) -> dict[str, Any]:
    """CLIP's towers with new projections and the initial temperature, as the reference has them."""
    generator = _generator(key)
    for name in (_PROJECTION, _TEXT_PROJECTION):
        if name in state:
            width = len(state[name])
            normal = generator.standard_normal((width, embedding), np.float32)
            state[name] = normal * np.float32(width**-0.5)
    return state | {"logit_scale": np.float32(INITIAL_LOGIT_SCALE)}


def _with_head(state: dict[str, Any], num_classes: int, key: jax.Array) -> dict[str, Any]:
    """The video tower and a new head in the place of its projection."""
    towers = {name: value for name, value in state.items() if name.startswith("visual.")}
    towers.pop(_PROJECTION, None)
    shape = (num_classes, np.shape(state["visual.class_embedding"])[0])
    normal = _generator(key).standard_normal(shape, np.float32)
    return towers | {
        "fc_cls.weight": np.float32(_HEAD_STD) * normal,
        "fc_cls.bias": np.zeros(num_classes, np.float32),
    }


def _with_tables(state: Mapping[str, Any], new: New) -> dict[str, Any]:
    """Tables of another number of frames, text length or vocabulary."""
    state, frames = dict(state), new.num_frames
    if new.temporal not in TEMPORAL:
        raise ValueError(f"temporal={new.temporal!r} is unknown; choose one of {TEMPORAL}")
    if frames is not None and (frames > 1 or _TIME in state):
        if frames < 2:
            raise ValueError(
                f"num_frames={frames}: a video model keeps at least 2; pass it images as they are"
            )
        width = np.shape(state["visual.class_embedding"])[0]
        table = as_float32(state.get(_TIME, np.zeros((1, width))))
        state[_TIME] = temporal_table(table, frames, new.temporal)
    if new.context_length is not None:
        state[_TEXT] = _rows(as_float32(state[_TEXT]), new.context_length)
    if new.vocab_size is not None:
        stored = np.shape(state[_TOKENS])[0]
        if new.vocab_size < stored:
            raise ValueError(f"vocab_size={new.vocab_size} must be at least the stored {stored}")
        state[_TOKENS] = _rows(as_float32(state[_TOKENS]), new.vocab_size)
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
