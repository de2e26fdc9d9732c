"""Colour jitter of packed tokens on the device, with dm-pix.

Brightness, contrast, saturation and hue change by amounts drawn once for a clip, so that its
frames stay consistent (as torchvision's ColorJitter on clips, though with dm-pix's formulas:
brightness is added). It is the alternative to RandAugment, whose operations are Pillow's and run on
the host: of these dm-pix has only solarize in the same form.
"""

import functools

import dm_pix as pix
import jax
import jax.numpy as jnp

from fluxjax.augment.boxes import pixel_patch_side
from fluxjax.tokens.tokens import IMAGENET_PIXELS, PixelStats, Tokens


def jitter(
    tokens: Tokens,
    key: jax.Array,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    pixels: PixelStats = IMAGENET_PIXELS,
) -> Tokens:
    """Changes the colours of every clip.

    Args:
      tokens: normalised float pixels [B, N, patch*patch*3], see `tokens.normalize_pixels`;
        grids may differ.
      key: random key.
      brightness: the largest amount added to or taken from pixels in [0, 1].
      contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x].
      hue: the largest shift, as a share of the colour circle; at most 0.5.
      pixels: the statistics that the tokens are normalised with.

    Returns:
      Tokens with pixels clipped to [0, 1] before they are normalised again; padding is unchanged.

    Raises:
      ValueError: if the tokens are not float pixels, an amount is negative, or hue above 0.5.
    """
    amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, amount in amounts.items():
        if amount < 0 or (name == "hue" and amount > 0.5):
            bound = "in [0, 0.5]" if name == "hue" else "0 or more"
            raise ValueError(f"jitter {name}={amount} must be {bound}")
    if not jnp.issubdtype(tokens.values.dtype, jnp.floating):
        raise ValueError(
            f"jitter needs float pixels, got {tokens.values.dtype}; call normalize_pixels first"
        )
    pixel_patch_side(tokens)
    draws = jax.random.uniform(key, (4, len(tokens.values)), minval=-1.0)
    low = lambda x: jnp.where(draws < 0, min(x, 1.0), x) * draws  # noqa: E731
    changes = (
        brightness * draws[0],
        1.0 + low(contrast)[1],
        1.0 + low(saturation)[2],
        hue * draws[3],
    )
    one_clip = functools.partial(_one_clip, pixels)
    values = jax.vmap(one_clip)(tokens.values, tokens.valid, *changes)
    return tokens.replace(values=jnp.where(tokens.valid[..., None], values, tokens.values))


def _one_clip(pixels, values, valid, brightness, contrast, saturation, hue) -> jax.Array:
    """dm-pix's operations on a clip's tokens [N, patch*patch*3] as a picture of N rows."""
    mean_color, scale = jnp.array(pixels.mean), jnp.array(pixels.std)
    image = values.reshape(len(values), -1, 3) * scale + mean_color
    image = jnp.clip(pix.adjust_brightness(image, brightness), 0.0, 1.0)
    # Contrast is about the mean colour: padding must not shift it.
    inside = jnp.broadcast_to(valid[:, None, None], image.shape)
    mean = jnp.mean(image, axis=(0, 1), where=inside)
    image = pix.adjust_contrast(jnp.where(inside, image, mean), contrast)
    image = pix.adjust_saturation(jnp.clip(image, 0.0, 1.0), saturation)
    image = jnp.clip(pix.adjust_hue(image, hue), 0.0, 1.0)
    return ((image - mean_color) / scale).reshape(values.shape)
