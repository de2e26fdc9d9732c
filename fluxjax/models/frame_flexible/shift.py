"""TSM's temporal shift: some channels come from the next frame, some from the one before.

Source: "TSM: Temporal Shift Module" (arXiv 1811.08383), as in BeSpontaneous/FFN-pytorch.
"""

import jax
import jax.numpy as jnp

SHIFTS = ("clip", "leak")
_PARTS = 8


def shift(x: jax.Array, frames: int) -> jax.Array:
    """Frames [B*T, H, W, C] -> the same shape.

    Of C channels the first eighth holds the next frame's, the second that of the frame before, with
    zeros beyond the ends of every `frames` frames.

    Raises:
      ValueError: if they do not divide the frames given.
    """
    if x.shape[0] % frames:
        raise ValueError(
            f"{x.shape[0]} frames of a batch are no whole clips of {frames}; shift='leak' takes "
            "batches whose frames are"
        )
    clips = x.reshape(-1, frames, *x.shape[1:])
    part = x.shape[-1] // _PARTS
    gap = jnp.zeros((clips.shape[0], 1, *clips.shape[2:-1], part), x.dtype)
    after = jnp.concatenate([clips[:, 1:, ..., :part], gap], axis=1)
    before = jnp.concatenate([gap, clips[:, :-1, ..., part : 2 * part]], axis=1)
    return jnp.concatenate([after, before, clips[..., 2 * part :]], axis=-1).reshape(x.shape)
