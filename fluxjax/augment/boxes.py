"""Boxes of pixels in packed tokens."""

import math

import jax
import numpy as np

from fluxjax.tokens.tokens import Tokens


def inside_box(position: jax.Array, box: jax.Array, patch: int) -> jax.Array:
    """Which pixels of tokens lie in a box, in whatever frame.

    Args:
      position: [B, N, 3] int32, (t, h, w) of each token.
      box: [4] int32 (yl, yh, xl, xh) for all clips or [B, 4] for each; the pixels
        [yl, yh) x [xl, xh).
      patch: side of a patch in pixels.

    Returns:
      [B, N, patch*patch*3] bool.
    """
    value = np.arange(patch * patch * 3)  # row-major (row, column, channel) inside a patch
    y = position[..., 1:2] * patch + value // (3 * patch)
    x = position[..., 2:3] * patch + value // 3 % patch
    sides = box.reshape(-1, 4, 1, 1)  # [1 or B, 4, 1, 1]
    yl, yh, xl, xh = (sides[:, i] for i in range(4))
    return (yl <= y) & (y < yh) & (xl <= x) & (x < xh)


def pixel_patch_side(tokens: Tokens) -> int:
    """Side of a patch in pixels, of tokens [B, N, patch*patch*3].

    Raises:
      ValueError: if the tokens are not pixels: patch * patch * 3 values each.
    """
    width = tokens.values.shape[-1]
    patch = math.isqrt(width // 3)
    if 3 * patch * patch != width:
        raise ValueError(
            f"mixing and erasing need tokens of pixels, patch * patch * 3 values each, got {width} "
            "values; apply them before the embedding"
        )
    return patch
