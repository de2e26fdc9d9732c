"""What a masked autoencoder is to predict of a hidden tubelet: its pixels, raw or normalised.

Source: "Masked Autoencoders Are Scalable Vision Learners" (arXiv 2111.06377, section 3) as the
official VideoMAE and AVION compute it.
"""

import jax
import jax.numpy as jnp

# Kind of target -> what pixels of 0 to 255 are multiplied by. Without normalisation AVION predicts
# bytes and VideoMAE numbers of 0 to 1; before it, the scale only meets the 1e-6 below.
SCALES = {"normalized": 1.0, "bytes": 1.0, "unit": 1 / 255}


def pixel_targets(cubes: jax.Array, kind: str = "normalized") -> jax.Array:
    """Targets of tubelets, which the loss is the mean squared distance to.

    "normalized" shifts each colour channel of each tubelet by its mean and divides it by its
    deviation (unbiased) plus 1e-6, on the scale of 0 to 255. So a tubelet of one colour, whose
    deviation is 0, gives zeros: sums of bytes are exact in float32. "bytes" are the pixels as they
    are, "unit" the same of 0 to 1.

    Args:
      cubes: [.., k*3] pixels of 0 to 255, uint8, channel fastest.
      kind: of `SCALES`.

    Returns:
      [.., k*3] float32.
    """
    pixels = cubes.astype(jnp.float32) * SCALES[kind]
    if kind != "normalized":
        return pixels
    pixels = pixels.reshape(*cubes.shape[:-1], -1, 3)
    centred = pixels - jnp.mean(pixels, axis=-2, keepdims=True)
    variance = jnp.sum(centred**2, axis=-2, keepdims=True) / (pixels.shape[-2] - 1)
    return (centred / (jnp.sqrt(variance) + 1e-6)).reshape(cubes.shape)


def pixels_of(predicted: jax.Array, cubes: jax.Array, kind: str = "normalized") -> jax.Array:
    """Predictions as pixels of 0 to 255: the inverse of `pixel_targets`, [.., k*3] float32.

    Args:
      predicted: [.., k*3], of the model.
      cubes: [.., k*3], the pixels of these tubelets; normalised targets take their means and
        deviations from them.
      kind: of `SCALES`.
    """
    if kind != "normalized":
        return predicted / SCALES[kind]
    pixels = cubes.astype(jnp.float32).reshape(*cubes.shape[:-1], -1, 3)
    mean = jnp.mean(pixels, axis=-2, keepdims=True)
    deviation = jnp.std(pixels, axis=-2, keepdims=True, ddof=1)
    return (predicted.reshape(pixels.shape) * deviation + mean).reshape(cubes.shape)
