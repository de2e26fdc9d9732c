"""Keys of what is random on the device: a function of the example, not of its batch or step."""

import jax


def example_keys(seed: int, draw: jax.Array, purpose: int) -> jax.Array:
    """A key an example, [B].

    Args:
      seed: of the run.
      draw: [B] int32, the target "draw" of an `ExampleSpec`: of (seed, epoch, example).
      purpose: number of what the key is for; others are independent of it.
    """
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(draw)
