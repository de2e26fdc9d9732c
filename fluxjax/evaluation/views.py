"""From the logits of several views of a video to one prediction (FluxViT, multi-view testing)."""

import jax
import jax.numpy as jnp


def mean_probabilities(logits: jax.Array, present: jax.Array) -> jax.Array:
    """Softmax of each view in float32, averaged over the views that exist.

    Args:
      logits: [V, views, K], any float dtype; of absent views anything, also NaN.
      present: [V, views] bool; False for views that could not be read, and for padding.

    Returns:
      [V, K] float32; zeros for a video without any view, which belongs in no average.
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    total = jnp.sum(jnp.where(present[..., None], probs, 0.0), axis=1)
    count = jnp.sum(present, axis=1, dtype=jnp.float32)
    return total / jnp.maximum(count, 1.0)[:, None]


def top_k_hits(probs: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether each video's label is among its k most probable classes.

    Equal probabilities rank the lower class first, as NumPy's argmax does; so exactly k classes
    are hits, and a model that answers the same for all classes gains nothing. With fewer than k
    classes every class is among the k. Never a hit are labels outside [0, K), NaN, and rows of
    zeros (see `mean_probabilities`).

    Args:
      probs: [V, K] probabilities.
      labels: [V] integers.
      k: classes that may be named, static.

    Returns:
      [V] bool.

    Raises:
      ValueError: if k is smaller than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    classes = jnp.arange(probs.shape[-1])
    is_label = classes == labels[:, None]
    of_label = jnp.sum(jnp.where(is_label, probs, 0.0), axis=-1, keepdims=True)
    ahead = (probs > of_label) | ((probs == of_label) & (classes < labels[:, None]))
    countable = jnp.any(is_label, axis=-1) & jnp.any(probs > 0, axis=-1)
    countable &= ~jnp.any(jnp.isnan(probs), axis=-1)
    return (jnp.sum(ahead, axis=-1) < min(k, probs.shape[-1])) & countable
