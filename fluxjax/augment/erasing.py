"""Random erasing of packed tokens on the device.

Random erasing (Zhong et al. 2020) as timm's `pixel` mode with one box, in the variant for videos
that FluxViT's and VideoMAE's fine-tuning use: a clip's box is the same in all of its frames and is
filled with noise that differs from pixel to pixel. It comes before mixup and cutmix.

Clips of one batch may be sampled on different grids, and the grids may be traced.
"""

import math

import jax
import jax.numpy as jnp

from fluxjax.augment.boxes import inside_box, pixel_patch_side
from fluxjax.tokens.tokens import Tokens

TRIES = 100  # boxes drawn for a clip; the first that fits is taken


def erase(
    tokens: Tokens,
    key: jax.Array,
    *,
    prob: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tokens:
    """Draws a box for every clip of tokens [B, N, patch*patch*3] and fills it.

    See `draw` and `apply`.

    Raises:
      ValueError: as `draw` and `apply` do.
    """
    key_box, key_noise = jax.random.split(key)
    patch = pixel_patch_side(tokens)
    boxes = draw(key_box, tokens.grid, patch, prob=prob, area=area, aspect=aspect)
    return apply(tokens, boxes, key_noise)


def draw(
    key: jax.Array,
    grid: jax.Array,
    patch: int,
    *,
    prob: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> jax.Array:
    """Draws the boxes to erase.

    Args:
      key: random key.
      grid: [B, 3] int32 (T, H, W) of each clip, space in patches; may be traced.
      patch: side of a patch in pixels.
      prob: probability that a clip is erased at all.
      area: range of the box's share of the picture, uniform.
      aspect: range of height / width, log-uniform.

    Returns:
      [B, 4] int32 (yl, yh, xl, xh): the pixels [yl, yh) x [xl, xh) of every frame; empty where
      nothing is erased, and where none of the tries is smaller than the picture on both sides.

    Raises:
      ValueError: if prob is not in [0, 1], or a range is not positive and ascending.
    """
    if not 0 <= prob <= 1:
        raise ValueError(f"erasing prob={prob} must lie in [0, 1]")
    if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
        raise ValueError(
            f"area and aspect must be positive ascending ranges, area up to 1, got area {area}, "
            f"aspect {aspect}"
        )
    key_any, key_area, key_aspect, key_place = jax.random.split(key, 4)
    clips = grid.shape[0]
    picture = grid[:, None, 1:] * patch  # [B, 1, (height, width)]
    share = jax.random.uniform(key_area, (clips, TRIES), minval=area[0], maxval=area[1])
    ratio = jnp.exp(
        jax.random.uniform(
            key_aspect, (clips, TRIES), minval=math.log(aspect[0]), maxval=math.log(aspect[1])
        )
    )
    pixels = share * picture.prod(axis=-1)
    sides = jnp.stack([jnp.sqrt(pixels * ratio), jnp.sqrt(pixels / ratio)], axis=-1)
    sides = jnp.round(sides).astype(jnp.int32)  # [B, TRIES, (height, width)]
    fits = (sides < picture).all(axis=-1)
    first = jnp.argmax(fits, axis=1)  # 0 where none fits: refused below
    sides = jnp.take_along_axis(sides, first[:, None, None], axis=1)[:, 0]
    erased = jax.random.bernoulli(key_any, prob, (clips,)) & fits.any(axis=1)
    sides = jnp.where(erased[:, None], sides, 0)
    low = jax.random.randint(key_place, (clips, 2), 0, picture[:, 0] - sides + 1)
    high = low + sides
    return jnp.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=-1)


def apply(tokens: Tokens, boxes: jax.Array, key: jax.Array) -> Tokens:
    """Fills a box of every clip with normal noise, independent in every value and frame.

    Args:
      tokens: normalised float pixels [B, N, patch*patch*3] (`tokens.normalize_pixels`
        first), so that noise of mean 0 and deviation 1 looks like pixels to the model.
      boxes: [B, 4] int32, see `draw`.
      key: of the noise.

    Raises:
      ValueError: if the tokens are not float pixels.
    """
    if not jnp.issubdtype(tokens.values.dtype, jnp.floating):
        raise ValueError(
            f"erasing needs float pixels, got {tokens.values.dtype}; call normalize_pixels first"
        )
    inside = inside_box(tokens.position, boxes, pixel_patch_side(tokens))
    inside &= tokens.valid[..., None]  # padding stays as it is
    noise = jax.random.normal(key, tokens.values.shape, tokens.values.dtype)
    return tokens.replace(values=jnp.where(inside, noise, tokens.values))
