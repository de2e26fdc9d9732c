"""Resizing of clips on the device, as PyTorch's `interpolate` does it."""

import jax
import jax.numpy as jnp

from fluxjax.tokens.positions import cubic_matrix


def resize_bicubic(video: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Frames of another size: bicubic with a = -0.75, half-pixel centres, no antialias.

    Args:
      video: [B, T, H, W, 3] float.
      size: (height, width) wanted, pixels.

    Returns:
      [B, T, height, width, 3] float32; values may lie beyond those of the input.
    """
    height, width = (int(side) for side in size)
    if (height, width) == video.shape[2:4]:
        return video.astype(jnp.float32)
    exact = jax.lax.Precision.HIGHEST
    rows = cubic_matrix(height, height, video.shape[2])
    columns = cubic_matrix(width, width, video.shape[3])
    video = jnp.einsum("ah,bthwc->btawc", rows, video.astype(jnp.float32), precision=exact)
    return jnp.einsum("dw,btawc->btadc", columns, video, precision=exact)
