"""Tokens: the one currency of every model, and the ways from videos to it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.tokens.grids import PATCH, clip_patches


class PixelStats(NamedTuple):
    """What pixels are normalised by: (x / 255 - mean) / std, RGB; a property of the weights."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET_PIXELS = PixelStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NO_PIXEL = 16.0  # normalised ones lie within 3; noise in their place stays below, bytes do not
CLIP_PIXELS = PixelStats((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
GREY_PIXELS = PixelStats((0.45,) * 3, (0.225,) * 3)  # of networks of the SlowFast code


@flax.struct.dataclass
class Tokens:
    """A batch of token sequences, each with its own sampling grid.

    Attributes:
      values: [B, N, D], pixels of a patch (uint8, or float when already normalised) or features.
      position: [B, N, 3] int32, (t, h, w) of each token in its clip's sampling grid.
      grid: [B, 3] int32, the grid (T, H, W) of each clip, space counted in patches.
      valid: [B, N] bool; valid tokens form a prefix, the rest is padding.
      max_grid: static (T, H, W) that no clip's grid exceeds on any axis. It bounds the position
        table that is resampled for a grid which is only known at run time.
      padded: static; False promises that every token of every clip is valid, so that attention
        needs no mask.
    """

    values: jax.Array
    position: jax.Array
    grid: jax.Array
    valid: jax.Array
    max_grid: tuple[int, int, int] | None = flax.struct.field(pytree_node=False, default=None)
    padded: bool = flax.struct.field(pytree_node=False, default=True)

    @property
    def static_grid(self) -> tuple[int, int, int] | None:
        """The one grid of all clips, where it is known while tracing; else None."""
        if self.padded or self.max_grid is None or math.prod(self.max_grid) != self.valid.shape[1]:
            return None  # tokens without padding can fill max_grid only if that is their grid
        return self.max_grid

    @property
    def grid_bound(self) -> tuple[int, int, int]:
        """`max_grid`, or the exact bound where the grids are concrete.

        Raises:
          ValueError: under `jax.jit` without `max_grid`, since the bound must be static.
        """
        if self.max_grid is not None:
            return self.max_grid
        if isinstance(self.grid, jax.core.Tracer):
            raise ValueError(
                "Tokens with a traced grid need max_grid=(T, H, W), a static bound of the grids; "
                "fluxjax.pack sets it, Tokens.from_patches takes it"
            )
        return tuple(int(side) for side in np.max(np.asarray(self.grid), axis=0))

    @classmethod
    def from_patches(
        cls, patches: jax.Array, grid: jax.Array, max_grid: tuple[int, int, int] | None = None
    ) -> "Tokens":
        """Wraps a host batch.

        Args:
          patches: [B, N, D]; clip b's patches, row-major over (t, h, w), are its first
            T*H*W rows, the rest is padding.
          grid: [B, 3] integers (T, H, W).
          max_grid: static bound of the grids, see `Tokens.max_grid`.
        """
        grid = jnp.asarray(grid, jnp.int32)
        slots = jnp.arange(patches.shape[1], dtype=jnp.int32)
        area, width = grid[:, 1:2] * grid[:, 2:3], grid[:, 2:3]
        # An empty clip would divide by zero; its tokens are all invalid anyway.
        t, inside = jnp.divmod(slots[None], jnp.maximum(area, 1))
        h, w = jnp.divmod(inside, jnp.maximum(width, 1))
        return cls(
            values=jnp.asarray(patches),
            position=jnp.stack([t, h, w], axis=-1),
            grid=grid,
            valid=slots[None] < grid[:, 0:1] * area,
            max_grid=max_grid,
        )

    @classmethod
    def from_video(cls, video: jax.Array, patch: int = PATCH) -> "Tokens":
        """Cuts clips [B, T, H, W, 3] of one grid into tokens without padding (see `patchify`)."""
        values = patchify(video, patch)
        _, frames, height, width, _ = video.shape
        grid = (frames, height // patch, width // patch)
        batch_grid = jnp.broadcast_to(jnp.array(grid, jnp.int32), (video.shape[0], 3))
        return cls.from_patches(values, batch_grid, grid).replace(padded=False)


def patchify(video: jax.Array, patch: int = PATCH) -> jax.Array:
    """[B, T, H, W, 3] -> [B, T*H/patch*W/patch, patch*patch*3], row-major, channel fastest.

    Raises:
      ValueError: if the video is not of rank 5 with 3 channels, or a side is not a multiple of
        `patch`.
    """
    if video.ndim != 5 or video.shape[-1] != 3:
        raise ValueError(f"a video must be [B, T, H, W, 3], got {tuple(video.shape)}")
    b, t, height, width, c = video.shape
    if height % patch or width % patch:
        raise ValueError(
            f"video height and width must be multiples of the patch size {patch}, "
            f"got {height} x {width}; crop or resize first"
        )
    rows, cols = height // patch, width // patch
    blocks = video.reshape(b, t, rows, patch, cols, patch, c).transpose(0, 1, 2, 4, 3, 5, 6)
    return blocks.reshape(b, t * rows * cols, patch * patch * c)


def unpatchify(values: jax.Array, grid: tuple[int, int, int], patch: int = PATCH) -> jax.Array:
    """Inverse of `patchify` for one static grid: [B, T*H*W, patch*patch*3] -> [B, T, .., 3]."""
    b, (t, rows, cols) = values.shape[0], grid
    blocks = values.reshape(b, t, rows, cols, patch, patch, -1).transpose(0, 1, 2, 4, 3, 5, 6)
    return blocks.reshape(b, t, rows * patch, cols * patch, -1)


def normalize_pixels(values: jax.Array, stats: PixelStats = IMAGENET_PIXELS) -> jax.Array:
    """uint8 pixels [.., 3*k], channel fastest -> normalised float32; floats pass unchanged.

    Raises:
      ValueError: on floats that cannot be normalised pixels; what is traced cannot be looked at.
    """
    if jnp.issubdtype(values.dtype, jnp.floating):
        _check_normalised(values)
        return values
    repeats = values.shape[-1] // 3
    mean = 255 * np.tile(np.float32(stats.mean), repeats)
    std = 255 * np.tile(np.float32(stats.std), repeats)
    return (values.astype(jnp.float32) - mean) / std


def _check_normalised(values: jax.Array) -> None:
    if isinstance(values, jax.core.Tracer) or not getattr(values, "is_fully_addressable", True):
        return
    largest = float(np.max(np.abs(np.asarray(values, np.float32)), initial=0.0))
    if largest > _NO_PIXEL:
        raise ValueError(
            f"{values.dtype} pixels of up to {largest:g} are not normalised, which lie within "
            "about -3 to 3: pass uint8 frames of 0 to 255, or normalise as (x / 255 - mean) / std "
            "with the model's `pixels`"
        )


def check_patch(tokens: Tokens, patch: int) -> None:
    """Raises ValueError unless `tokens` hold the pixels of patches, [B, N, patch*patch*3]."""
    if tokens.values.shape[-1] != patch**2 * 3:
        raise ValueError(
            f"tokens hold {tokens.values.shape[-1]} values each, patches of {patch} "
            f"pixels have {patch**2 * 3}; were they packed with another patch size?"
        )


def gather(tokens: Tokens, index: jax.Array, valid: jax.Array) -> Tokens:
    """Takes tokens by slot number.

    Args:
      tokens: N slots a clip.
      index: [B, K] int32, slots to take, in the order wanted.
      valid: [B, K] bool, a prefix; False marks slots of the result that hold nothing.

    Returns:
      Tokens with K slots, on the same grids.
    """
    take = lambda x: jnp.take_along_axis(x, index[..., None], axis=1)  # noqa: E731
    return tokens.replace(values=take(tokens.values), position=take(tokens.position), valid=valid)


def pack(
    clips: Sequence[np.ndarray],
    max_tokens: int,
    patch: int = PATCH,
    max_grid: tuple[int, int, int] | None = None,
) -> Tokens:
    """Packs clips of any grids into one batch of padded tokens.

    Args:
      clips: each [T, H, W, 3] uint8 (or float, already normalised); grids may differ.
      max_tokens: slots a clip; shorter clips are padded with zeros.
      patch: patch side in pixels.
      max_grid: static bound (T, H, W) of the grids, space in patches. By default the clips' own
        maximum, rounded up to a multiple of 8 an axis so that few programs are compiled.

    Returns:
      Tokens with values [B, max_tokens, patch*patch*3] of the clips' dtype.

    Raises:
      ValueError: if there is no clip, a clip has more tokens than `max_tokens`, is not
        [T, H, W, 3], exceeds `max_grid`, or the dtypes differ.
    """
    if not len(clips):
        raise ValueError("pack needs at least one clip")
    clips = [np.asarray(clip) for clip in clips]
    if len({clip.dtype for clip in clips}) > 1:
        raise ValueError(f"clips differ in dtype: {sorted({str(c.dtype) for c in clips})}")
    packed = np.zeros((len(clips), max_tokens, patch * patch * 3), clips[0].dtype)
    grid = np.zeros((len(clips), 3), np.int32)
    for b, clip in enumerate(clips):
        patches = clip_patches(clip, patch)
        if len(patches) > max_tokens:
            raise ValueError(
                f"clip {b} of shape {clip.shape} has {len(patches)} tokens, more than "
                f"max_tokens={max_tokens}; raise max_tokens or sample fewer frames or pixels"
            )
        packed[b, : len(patches)] = patches
        grid[b] = clip.shape[0], clip.shape[1] // patch, clip.shape[2] // patch
    largest = grid.max(axis=0)
    if max_grid is None:
        max_grid = tuple(int(-(-side // 8) * 8) for side in largest)
    elif any(largest > np.array(max_grid)):
        raise ValueError(f"a clip's grid {tuple(largest.tolist())} exceeds max_grid={max_grid}")
    return Tokens.from_patches(packed, grid, max_grid)
