"""What a config's augmentation on the device does to clips, packed or dense."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.augment.erasing import erase
from fluxjax.augment.mixing import mix, smooth_one_hot
from fluxjax.augment.photometric import jitter
from fluxjax.tokens.tokens import PixelStats, Tokens, normalize_pixels


def augmented(tokens: Tokens, key: jax.Array, config: ConfigDict, pixels: PixelStats) -> Tokens:
    """Clips after colour jitter and random erasing, if the config asks for them.

    Args:
      tokens: of pixels [B, N, patch*patch*3].
      key: of every draw; colours and boxes depend on it and on B alone, not on frames.
      config: uses `jitter` and `erasing`.
      pixels: the model's statistics.
    """
    amounts, prob = config.jitter.to_dict(), config.erasing.prob
    if not prob and not any(amounts.values()):
        return tokens
    tokens = tokens.replace(values=normalize_pixels(tokens.values, pixels))
    if any(amounts.values()):
        tokens = jitter(tokens, jax.random.fold_in(key, 1), pixels=pixels, **amounts)
    return erase(tokens, key, prob=prob) if prob else tokens


def mixed(
    tokens: Tokens, labels: jax.Array, key: jax.Array, config: ConfigDict, pixels: PixelStats
) -> tuple[Tokens, jax.Array]:
    """Clips and soft targets [B, K] after mixup or cutmix, if the config asks for them.

    Args:
      tokens: of pixels [B, N, patch*patch*3].
      labels: [B] integers.
      key: of every draw, which do not depend on frames.
      config: uses `mixing` and `num_classes`.
      pixels: the model's statistics.
    """
    mixing, classes = config.mixing, config.num_classes
    if not mixing.prob:
        return tokens, smooth_one_hot(labels, classes, mixing.smoothing)
    tokens = tokens.replace(values=normalize_pixels(tokens.values, pixels))
    return mix(
        tokens,
        labels,
        key,
        classes,
        mixup_alpha=mixing.mixup_alpha,
        cutmix_alpha=mixing.cutmix_alpha,
        prob=mixing.prob,
        switch_prob=mixing.switch_prob,
        smoothing=mixing.smoothing,
    )


def augmented_videos(
    videos: list[jax.Array],
    labels: jax.Array,
    key: jax.Array,
    config: ConfigDict,
    pixels: PixelStats,
) -> tuple[list[jax.Array], jax.Array]:
    """Dense clips [B, T, S, S, 3] of the same B videos under one joint augmentation.

    A frame is a token of one patch of S x S pixels. All clips have the same draws of colours,
    boxes, partners and shares; the noise in an erased box is each clip's own.

    Args:
      videos: clips of one size S, uint8 or normalised float; T may differ.
      labels: [B] integers.
      key: of every draw.
      config: uses `jitter`, `erasing`, `mixing` and `num_classes`.
      pixels: the model's statistics.

    Returns:
      Normalised float32 clips, and the soft targets [B, K].
    """
    augment_key, mix_key = jax.random.split(key)
    clips = []
    for video in videos:
        tokens = Tokens.from_video(video, patch=video.shape[2])
        tokens = augmented(tokens, augment_key, config, pixels)
        tokens, targets = mixed(tokens, labels, mix_key, config, pixels)
        clips.append(normalize_pixels(tokens.values.reshape(video.shape), pixels))
    return clips, jnp.asarray(targets)
