"""Tokens of models that work frame by frame: all clips of a batch on one grid, no padding."""

import math

import jax
import jax.numpy as jnp

from fluxjax.tokens.tokens import Tokens


def pixel_tokens(video_or_tokens: jax.Array | Tokens, patch: int) -> Tokens:
    """Images [B, H, W, 3] or clips [B, T, H, W, 3] as tokens; tokens pass unchanged."""
    if isinstance(video_or_tokens, Tokens):
        return video_or_tokens
    if video_or_tokens.ndim == 4:
        video_or_tokens = video_or_tokens[:, None]
    return Tokens.from_video(video_or_tokens, patch)


def one_grid(tokens: Tokens, what: str) -> tuple[int, int, int]:
    """The static grid (T, H, W) of all clips [B, T*H*W, D].

    Raises:
      ValueError: if it is not known while tracing.
    """
    if tokens.static_grid is None:
        raise ValueError(
            f"{what} works frame by frame and needs all clips on one grid that is known while "
            "tracing: pass dense videos [B, T, H, W, 3], not packed tokens"
        )
    grid = tokens.static_grid
    assert math.prod(grid) == tokens.values.shape[1]
    return grid


def take_places(x: jax.Array, places: jax.Array | None) -> jax.Array:
    """Of every frame the tokens at some places: [B, T, N, ..] -> [B, T, K, ..].

    Args:
      x: [B, T, N, ..].
      places: [B, K] int32, the same ones in every frame, or [B, T, K]; None: all.
    """
    if places is None:
        return x
    places = places if places.ndim == 3 else places[:, None]
    index = places.reshape(*places.shape, *[1] * (x.ndim - 3))
    return jnp.take_along_axis(x, index, axis=2)
