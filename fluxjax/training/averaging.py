"""The moving average of the parameters: how much of it each update replaces."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict


def replaced_share(optim: ConfigDict, updates: jax.Array) -> jax.Array:
    """1 - decay of the optimizer update that comes after `updates` others; float32 like it.

    With optim.ema_warmup the decay is min(optim.ema, (1 + n) / (10 + n)) after n updates, as in
    TensorFlow's ExponentialMovingAverage: a tenth at first, so that the initial weights are soon
    forgotten, and optim.ema once n is about 9 / (1 - ema).

    Args:
      optim: uses `ema` and `ema_warmup`.
      updates: optimizer updates made before, any shape; steps that only accumulate are none.
    """
    share = jnp.full(jnp.shape(updates), 1.0 - optim.ema, jnp.float32)
    return jnp.maximum(share, 9.0 / (10.0 + updates)) if optim.ema_warmup else share


def initial_share(optim: ConfigDict, first: int, last: int) -> float:
    """What updates number first .. last - 1, counted from 0, leave of the average before them."""
    kept = 1.0 - np.asarray(replaced_share(optim, jnp.arange(first, last)), np.float64)
    return float(np.prod(kept))
