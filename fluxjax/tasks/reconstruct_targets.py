"""What a masked autoencoder is to predict of a hidden tubelet: its pixels, normalised by its own.

Source: "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377, section 3) as the
official VideoMAE and AVION compute it.
"""

import jax
import jax.numpy as jnp


def pixel_targets(cubes: jax.Array, normalize: bool = True) -> jax.Array:
    """Targets of tubelets, which the loss is the mean squared distance to.

    Each colour channel of each tubelet is shifted by its mean and divided by its deviation
    (unbiased) plus 1e-6, on the scale of 0 to 255. So a tubelet of one colour, whose deviation is
    0, gives zeros: sums of bytes are exact in float32.

    Args:
      cubes: [.., k*3] pixels of 0 to 255, uint8, channel fastest.
      normalize: False: the pixels as they are, 0 to 255, as AVION's option does.

    Returns:
      [.., k*3] float32.
    """
    pixels = cubes.astype(jnp.float32)
    if not normalize:
        return pixels
    pixels = pixels.reshape(*cubes.shape[:-1], -1, 3)
    centred = pixels - jnp.mean(pixels, axis=-2, keepdims=True)
    variance = jnp.sum(centred**2, axis=-2, keepdims=True) / (pixels.shape[-2] - 1)
    return (centred / (jnp.sqrt(variance) + 1e-6)).reshape(cubes.shape)


def pixels_of(predicted: jax.Array, cubes: jax.Array, normalized: bool = True) -> jax.Array:
    """Predictions as pixels of 0 to 255: the inverse of `pixel_targets`, [.., k*3] float32.

    Args:
      predicted: [.., k*3], of the model.
      cubes: [.., k*3], the pixels of these tubelets, whose means and deviations are taken.
      normalized: whether the targets were.
    """
    if not normalized:
        return predicted
    pixels = cubes.astype(jnp.float32).reshape(*cubes.shape[:-1], -1, 3)
    mean = jnp.mean(pixels, axis=-2, keepdims=True)
    deviation = jnp.std(pixels, axis=-2, keepdims=True, ddof=1)
    return (predicted.reshape(pixels.shape) * deviation + mean).reshape(cubes.shape)
