"""CLIP's image encoder as a teacher of videos, frame by frame: UMT's unmasked teacher.

Source: "Unmasked Teacher" (arXiv 2303.16058, section 3.2), OpenGVLab/unmasked_teacher.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fluxjax.models.clip import TowerFields
from fluxjax.models.dense_clips import pixel_tokens
from fluxjax.models.layers import mean_attention
from fluxjax.tokens.tokens import Tokens


class Taught(NamedTuple):
    """What a student is taught.

    Attributes:
      features: [L, B, T*K, E] float32, projected and not of unit norm; shallow layers first.
      attention: [B*T, K] float32, of each frame's cls token to the others in the last block, mean
        over heads; cls took the rest of 1.
    """

    features: jax.Array
    attention: jax.Array


def teach(
    model: TowerFields,
    video_or_tokens: jax.Array | Tokens,
    layers: Sequence[int],
    places: jax.Array | None = None,
) -> Taught:
    """Targets for a student: `model.apply(variables, video, layers, method=teach)`.

    Every taught layer passes CLIP's own last norm and projection, as in the official code.

    Args:
      model: a `ClipImage` with projection, whose method of this name gives unit vectors.
      video_or_tokens: clips [B, T, H, W, 3], uint8 or floats; the official code shows the teacher
        the student's pixels, normalised by ImageNet's statistics rather than CLIP's.
      layers: blocks whose outputs are taught, ascending, see `return_layers`.
      places: [B, T, K] int32, the tokens that each frame keeps; None: all, as in the official
        training.

    Raises:
      ValueError: on a wrong layer, or a model without projection.
    """
    if not layers or not set(layers) <= set(range(model.depth)):
        raise ValueError(f"layers {tuple(layers)} are not among 0 to {model.depth - 1}")
    if model.embedding is None or model.num_classes is not None:
        raise ValueError("a teacher needs CLIP's projection: load its weights with it")
    tower = model.tower(pixel_tokens(video_or_tokens, model.patch), places=places)
    taught = jnp.stack([
        model.proj(model.ln_post(tower.layers[i].out[:, :, 1:])).astype(jnp.float32)
        for i in layers
    ])  # fmt: skip
    features = taught.reshape(*taught.shape[:2], -1, taught.shape[-1])
    last = tower.layers[-1]
    q, k = (x.reshape(-1, *x.shape[2:]) for x in (last.q, last.k))
    return Taught(features, mean_attention(q[:, :1], k, None)[:, 1:])
