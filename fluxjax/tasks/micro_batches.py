"""Large batches in small memory for losses that compare all pairs of a batch.

Averaging the gradients of small batches is not the gradient of a large one where the loss compares
the examples with each other. Instead all embeddings are computed first, a part of the batch at a
time and without keeping activations; once the loss of all of them is known, the backward pass
computes each part again: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
(arXiv 2101.06983, GradCache).
"""

from collections.abc import Callable
from typing import Any

import jax


def in_parts(
    encode: Callable[[Any, jax.Array], Any], batch: Any, key: jax.Array, count: int
) -> Any:
    """`encode(batch, key)`, computed on `count` parts of the batch one after the other.

    Its gradient is that of the whole batch; activations are kept of one part at a time.

    Args:
      encode: (arrays [b, ..], key) -> arrays [b, ..], each row from its own row alone.
      batch: arrays [B, ..]. On several devices every one of them works on each part.
      key: each part has one of its own.
      count: must divide B.

    Returns:
      Arrays [B, ..].

    Raises:
      ValueError: if the batch cannot be cut into so many parts.
    """
    size = len(jax.tree.leaves(batch)[0])
    if count < 1 or size % count:
        raise ValueError(f"a batch of {size} cannot be cut into {count} equal parts")
    # Every count-th row makes a part, so that rows stay on the devices they are on.
    split = lambda x: x.reshape(size // count, count, *x.shape[1:]).swapaxes(0, 1)  # noqa: E731
    join = lambda x: x.swapaxes(0, 1).reshape(size, *x.shape[2:])  # noqa: E731
    parts = jax.tree.map(split, batch), jax.random.split(key, count)
    return jax.tree.map(join, jax.lax.map(lambda part: jax.checkpoint(encode)(*part), parts))
