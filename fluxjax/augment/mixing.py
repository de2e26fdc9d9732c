"""Mixup and cutmix of packed tokens on the device.

Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) in timm's batch mode, the recipe of FluxViT's
and VideoMAE's fine-tuning: one choice for the whole batch, and clip i is mixed with clip B - 1 - i.
The choice is one per global batch, where the releases make one per device.

All clips of a batch must be sampled on one grid, since slot n of both partners must be the same
place. Which grid that is may be traced, so differing grids cannot be an error here: whoever
configures a run that mixes must draw its grid per batch.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from fluxjax.augment.boxes import inside_box, pixel_patch_side
from fluxjax.tokens.tokens import Tokens


@flax.struct.dataclass
class Mixing:
    """One choice of how a batch is mixed.

    Attributes:
      lam: float32 scalar, the weight of a clip's own label; in mixup also of its own pixels.
      box: [4] int32 (yl, yh, xl, xh), the pixels [yl, yh) x [xl, xh) of every frame that cutmix
        takes from the partner. Without meaning in mixup.
      use_cutmix: bool scalar; False for mixup.
    """

    lam: jax.Array
    box: jax.Array
    use_cutmix: jax.Array


def mix(
    tokens: Tokens,
    labels: jax.Array,
    key: jax.Array,
    num_classes: int,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    smoothing: float = 0.1,
) -> tuple[Tokens, jax.Array]:
    """Draws a choice and applies it; see `draw` and `apply`.

    Returns:
      The mixed tokens, and the targets [B, num_classes] float32.

    Raises:
      ValueError: as `draw` and `apply` do.
    """
    mixing = draw(
        key,
        tokens.grid[0],
        pixel_patch_side(tokens),
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        prob=prob,
        switch_prob=switch_prob,
    )
    return apply(tokens, labels, mixing, num_classes, smoothing=smoothing)


def draw(
    key: jax.Array,
    grid: jax.Array,
    patch: int,
    *,
    mixup_alpha: float = 0.8,
    cutmix_alpha: float = 1.0,
    prob: float = 1.0,
    switch_prob: float = 0.5,
) -> Mixing:
    """Draws how to mix a batch.

    Args:
      key: random key.
      grid: [3] int32 (T, H, W) of the batch, space in patches; may be traced.
      patch: side of a patch in pixels.
      mixup_alpha: lam ~ Beta(alpha, alpha) of mixup; 0 never uses mixup.
      cutmix_alpha: the same of cutmix; 0 never uses cutmix.
      prob: probability that a batch is mixed at all.
      switch_prob: probability of cutmix rather than mixup where both are in use.

    Raises:
      ValueError: if an alpha is negative or both are 0, or a probability is not in [0, 1].
    """
    if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
        raise ValueError(
            "mixing needs mixup_alpha or cutmix_alpha above 0 and none below, got "
            f"mixup_alpha={mixup_alpha}, cutmix_alpha={cutmix_alpha}; not to mix, do not call it"
        )
    if not (0 <= prob <= 1 and 0 <= switch_prob <= 1):
        raise ValueError(f"prob={prob} and switch_prob={switch_prob} must lie in [0, 1]")
    if not (mixup_alpha and cutmix_alpha):
        switch_prob = float(cutmix_alpha > 0)
    return _draw(key, grid, patch, mixup_alpha, cutmix_alpha, prob, switch_prob)


def apply(
    tokens: Tokens,
    labels: jax.Array,
    mixing: Mixing,
    num_classes: int,
    *,
    smoothing: float = 0.1,
) -> tuple[Tokens, jax.Array]:
    """Mixes every clip i with clip B - 1 - i, and their labels.

    Args:
      tokens: float pixels [B, N, patch*patch*3] (`tokens.normalize_pixels` first), all
        clips on one grid, B even.
      labels: [B] integers.
      mixing: the choice.
      num_classes: K.
      smoothing: label smoothing, see `smooth_one_hot`.

    Returns:
      The mixed tokens, and the targets lam * y_i + (1 - lam) * y_(B-1-i), [B, K] float32.

    Raises:
      ValueError: if B is odd, or the tokens are not float pixels.
    """
    batch = tokens.values.shape[0]
    if batch % 2:
        raise ValueError(f"mixing pairs clips: the batch size must be even, got {batch}")
    if not jnp.issubdtype(tokens.values.dtype, jnp.floating):
        raise ValueError(
            f"mixing needs float pixels, got {tokens.values.dtype}; call normalize_pixels first"
        )
    inside = inside_box(tokens.position, mixing.box, pixel_patch_side(tokens))
    own = jnp.where(mixing.use_cutmix, jnp.where(inside, 0.0, 1.0), mixing.lam)  # [B, N, D]
    values = tokens.values.astype(jnp.float32)
    mixed = own * values + (1.0 - own) * values[::-1]
    targets = smooth_one_hot(labels, num_classes, smoothing)
    targets = mixing.lam * targets + (1.0 - mixing.lam) * targets[::-1]
    return tokens.replace(values=mixed.astype(tokens.values.dtype)), targets


def smooth_one_hot(labels: jax.Array, num_classes: int, smoothing: float = 0.1) -> jax.Array:
    """Targets with 1 - s + s / K at the label and s / K elsewhere, s = `smoothing`.

    Args:
      labels: [B] integers; one outside [0, K) gets s / K everywhere.
      num_classes: K.
      smoothing: in [0, 1).

    Returns:
      [B, K] float32.

    Raises:
      ValueError: if smoothing is not in [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"label smoothing must lie in [0, 1), got {smoothing}")
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    return one_hot * (1.0 - smoothing) + smoothing / num_classes


@functools.partial(jax.jit, static_argnames="patch")  # where nothing around it is compiled
def _draw(
    key: jax.Array,
    grid: jax.Array,
    patch: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    prob: float,
    switch_prob: float,
) -> Mixing:
    key_any, key_switch, key_lam, key_box = jax.random.split(key, 4)
    mixed = jax.random.bernoulli(key_any, prob)
    use_cutmix = jax.random.bernoulli(key_switch, switch_prob) & mixed
    alpha = jnp.where(use_cutmix, cutmix_alpha, mixup_alpha)
    alpha = jnp.where(alpha > 0, alpha, 1.0)  # 0 is only chosen where the batch stays unmixed
    lam = jax.random.beta(key_lam, alpha, alpha)
    sides = grid[1:] * patch
    box = _draw_box(key_box, sides, lam)
    # The box is cut off at the borders: labels follow the area that is really pasted.
    pasted = (box[1] - box[0]) * (box[3] - box[2]) / (sides[0] * sides[1])
    lam = jnp.where(use_cutmix, 1.0 - pasted, lam)
    return Mixing(jnp.where(mixed, lam, 1.0).astype(jnp.float32), box, use_cutmix)


def _draw_box(key: jax.Array, sides: jax.Array, lam: jax.Array) -> jax.Array:
    """A box of 1 - lam of the area around any pixel, cut off at the borders; (yl, yh, xl, xh)."""
    half = jnp.floor(sides * jnp.sqrt(1.0 - lam)).astype(jnp.int32) // 2
    centre = jax.random.randint(key, (2,), 0, sides)
    low, high = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, sides)
    return jnp.stack([low[0], high[0], low[1], high[1]])
