"""Which tokens a student sees: a race in which tokens of more weight tend to come in sooner.

Tokens are drawn without replacement, with probabilities proportional to their weights. Equivalent
to that and parallel: every token gets the time e / weight, e exponential, and they come in in the
order of their times (Efraimidis and Spirakis, "Weighted random sampling with a reservoir").
"""

import jax
import jax.numpy as jnp


def race_order(weights: jax.Array, noise: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The order in which tokens come in, [B, N] int32 slots; padding last, equal ones by slot.

    Args:
      weights: [B, N], not negative, such as a teacher's attention.
      noise: [B, N] exponential draws.
      valid: [B, N] bool; None: no padding.
    """
    noise = jnp.maximum(noise.astype(jnp.float32), jnp.finfo(jnp.float32).tiny)  # it may be 0
    speed = weights.astype(jnp.float32) / noise
    if valid is not None:
        speed = jnp.where(valid, speed, -1.0)
    return jnp.argsort(-speed, axis=1, stable=True).astype(jnp.int32)


def first_of(order: jax.Array, count: int) -> jax.Array:
    """The first `count` of an order [B, N], ascending: [B, count] int32."""
    return jnp.sort(order[:, :count], axis=1)


def race_noise(keys: jax.Array, count: int) -> jax.Array:
    """Exponential draws [B, count] float32, a row a key [B]."""
    return jax.vmap(lambda key: jax.random.exponential(key, (count,)))(keys)


def race_order_by_frame(weights: jax.Array, noise: jax.Array, frames: int) -> jax.Array:
    """As `race_order` with a race in every frame: [B, N] int32, the winners of all frames first.

    The first `frames * n` of the order are so n tokens of every frame. Of UMT (arXiv 2303.16058,
    section 3.1).

    Args:
      weights, noise: [B, N], frame after frame, without padding.
      frames: T, which divides N.
    """
    size = weights.shape[0], frames, -1
    order = race_order(*(x.reshape(weights.shape[0] * frames, -1) for x in (weights, noise)))
    area = order.shape[1]
    order = order.reshape(size) + area * jnp.arange(frames, dtype=jnp.int32)[:, None]
    return order.swapaxes(1, 2).reshape(weights.shape)
