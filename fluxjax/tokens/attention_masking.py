"""Masks drawn from a teacher's attention: what it looks at is likely to be seen.

Source: "Unmasked Teacher" (arXiv 2303.16058, section 3.1), OpenGVLab/unmasked_teacher.
"""

import jax
import jax.numpy as jnp

from fluxjax.tokens.race import race_order


def visible_per_frame(area: int, ratio: float) -> int:
    """Of a frame's `area` tokens those that are seen: area - int(area * ratio).

    Raises:
      ValueError: if that is none, or the ratio is no share.
    """
    visible = area - int(area * ratio)
    if not 0 <= ratio < 1 or visible < 1:
        raise ValueError(f"mask ratio {ratio} must be in [0, 1) and leave some of {area} tokens")
    return visible


def race(attention: jax.Array, draws: jax.Array, count: int) -> jax.Array:
    """Draws without replacement, with probabilities proportional to attention.

    The tokens with the largest attention / draw are drawn, the largest first, see `race_order`.

    Args:
      attention: [F, L] positive, of F frames.
      draws: [F, L] of the unit exponential distribution.
      count: K, tokens to draw.

    Returns:
      [F, K] int32, numbers of tokens in the order of the draws.
    """
    return race_order(attention, draws)[:, :count]


def visible_tokens(order: jax.Array, frames: int, area: int) -> jax.Array:
    """Numbers of the seen tokens in their clips, ascending.

    Args:
      order: [B*T, K] int32, numbers of tokens in their frames.
      frames: T.
      area: L, tokens of a frame.

    Returns:
      [B, T*K] int32.
    """
    first = area * jnp.arange(frames, dtype=jnp.int32)[:, None]
    inside = jnp.sort(order, axis=1).reshape(-1, frames, order.shape[1])
    return (inside.astype(jnp.int32) + first).reshape(len(inside), -1)


def hidden_mask(visible: jax.Array, tokens: int) -> jax.Array:
    """[B, K] numbers of seen tokens -> [B, tokens] bool, True for hidden ones."""
    rows = jnp.arange(len(visible))[:, None]
    return jnp.ones((len(visible), tokens), bool).at[rows, visible].set(False)
