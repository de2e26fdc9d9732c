"""Tubelets: cubes of a patch in consecutive frames, the tokens of VideoMAE and its heirs."""

import jax
import jax.numpy as jnp

from fluxjax.tokens.tokens import Tokens


def tubelets(tokens: Tokens, length: int, slots: int | None = None) -> Tokens:
    """Joins the patches of `length` consecutive frames at the same place into one token.

    Where the frames are no multiple of `length`, the last one is repeated: an image is a clip
    that stands still.

    Args:
      tokens: pixels [B, N, patch*patch*3] of patches, all of each clip's.
      length: frames of a tubelet.
      slots: of the result, where the grids are not known while tracing; None: as many as any
        clips of these slots can need.

    Returns:
      Tokens [B, M, length*patch*patch*3], pixels in the order (frame, row, column, channel), on
      the grids (ceil(T / length), H, W).
    """
    times = lambda frames: -(-frames // length)  # noqa: E731
    grid = jnp.concatenate([times(tokens.grid[:, :1]), tokens.grid[:, 1:]], axis=1)
    if tokens.static_grid is not None:
        static = (times(tokens.static_grid[0]), *tokens.static_grid[1:])
        values = _joined(tokens.values, tokens.static_grid, length)
        return Tokens.from_patches(values, grid, static).replace(padded=False)
    frames, rows, columns = tokens.grid_bound
    bound = (times(frames), rows, columns)
    if slots is None:
        n = tokens.valid.shape[1]
        slots = min(bound[0] * rows * columns, (n + (length - 1) * rows * columns) // length)
    parts = [_frame_of(tokens, i, length, slots) for i in range(length)]
    return Tokens.from_patches(jnp.concatenate(parts, axis=-1), grid, bound)


def _joined(values: jax.Array, grid: tuple[int, int, int], length: int) -> jax.Array:
    """[B, T*H*W, D] of one grid -> [B, ceil(T/length)*H*W, length*D]."""
    frames, area = grid[0], grid[1] * grid[2]
    values = values.reshape(values.shape[0], frames, area, -1)
    if missing := -frames % length:
        values = jnp.concatenate([values, *[values[:, -1:]] * missing], axis=1)
    values = values.reshape(values.shape[0], -1, length, area, values.shape[-1])
    values = jnp.swapaxes(values, 2, 3)
    return values.reshape(values.shape[0], values.shape[1] * area, -1)


def _frame_of(tokens: Tokens, number: int, length: int, slots: int) -> jax.Array:
    """The `number`-th frame's patch of every tubelet, [B, slots, D]; of empty slots anything."""
    area = jnp.maximum(tokens.grid[:, 1:2] * tokens.grid[:, 2:3], 1)
    time, place = jnp.divmod(jnp.arange(slots, dtype=jnp.int32)[None], area)
    frame = jnp.minimum(time * length + number, tokens.grid[:, :1] - 1)
    index = jnp.clip(frame * area + place, 0, tokens.valid.shape[1] - 1)
    return jnp.take_along_axis(tokens.values, index[..., None], axis=1)


def frames_of(tokens: Tokens, length: int, frames: jax.Array) -> Tokens:
    """The inverse for places: tokens on the grid of patches, `length` for each tubelet.

    Args:
      tokens: tubelets [B, K, length*D], such as a selection.
      length: frames of a tubelet.
      frames: [B, 1] int32, T of the clips before they were joined.

    Returns:
      Tokens [B, K*length, D] on the grids (T, H, W). A frame that `tubelets` repeated is no token:
      slots of it are not valid, and the valid ones no prefix.
    """
    b, k, _ = tokens.values.shape
    time = tokens.position[..., :1] * length + jnp.arange(length, dtype=jnp.int32)
    rest = jnp.broadcast_to(tokens.position[:, :, None, 1:], (b, k, length, 2))
    position = jnp.concatenate([time[..., None], rest], axis=-1).reshape(b, k * length, 3)
    valid = jnp.repeat(tokens.valid, length, axis=1) & (position[..., 0] < frames)
    grid = jnp.concatenate([frames, tokens.grid[:, 1:]], axis=1)
    values = tokens.values.reshape(b, k * length, -1)
    return Tokens(values, position, grid, valid)
