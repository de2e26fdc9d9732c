"""Sampling-grid arithmetic in plain numpy: which grids fit, and how a clip becomes patches.

A *sampling grid* is (frames T, height H, width W); in this module's functions H and W count
patches unless a name says pixels. Nothing here imports JAX, so that data pipelines can use it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

PATCH = 14  # pixels a side; FluxViT, section 3 ("patch14")


class Grid(NamedTuple):
    """A sampling grid: `frames` sampled, square crops of `resolution` pixels a side."""

    frames: int
    resolution: int

    def tokens(self, patch: int = PATCH) -> int:
        """Number of patch tokens, T * (resolution / patch)^2."""
        return self.frames * (self.resolution // patch) ** 2

    def shape(self, patch: int = PATCH) -> tuple[int, int, int]:
        """(T, H, W), space counted in patches."""
        return self.frames, self.resolution // patch, self.resolution // patch

    def __str__(self) -> str:
        return f"{self.frames}x{self.resolution}"


def parse_grid(text: str) -> Grid:
    """Reads "8x224" as 8 frames of 224 x 224 pixels.

    Raises:
      ValueError: if the text is not of that form or a number is not positive.
    """
    try:
        frames, resolution = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ValueError(
            f"grid {text!r} is not of the form FRAMESxRESOLUTION, e.g. 8x224"
        ) from None
    if frames < 1 or resolution < 1:
        raise ValueError(f"grid {text!r} needs positive numbers, e.g. 8x224")
    return Grid(frames, resolution)


def fitting_grids(
    frames: Iterable[int],
    resolutions: Iterable[int],
    min_tokens: int,
    max_tokens: int,
    patch: int = PATCH,
) -> tuple[Grid, ...]:
    """All (frames, resolution) pairs whose token count lies in [min_tokens, max_tokens].

    This is FluxViT's flexible sampling: the released recipe draws frames from 6, 8, .., 24 and
    resolutions from 112, 140, .., 336 with 2048 <= tokens <= 6144, which leaves 41 grids.

    Args:
      frames: candidate frame numbers.
      resolutions: candidate sides in pixels; each must be a multiple of `patch`.
      min_tokens: smallest number of tokens allowed.
      max_tokens: largest number of tokens allowed.
      patch: patch side in pixels.

    Raises:
      ValueError: if a resolution is not a multiple of the patch, or no grid fits.
    """
    frames, resolutions = tuple(frames), tuple(resolutions)
    odd = [r for r in resolutions if r % patch]
    if odd:
        raise ValueError(f"resolutions {odd} are not multiples of the patch size {patch}")
    grids = tuple(Grid(t, r) for t in frames for r in resolutions)
    fitting = tuple(g for g in grids if min_tokens <= g.tokens(patch) <= max_tokens)
    if not fitting:
        counts = [g.tokens(patch) for g in grids]
        raise ValueError(
            f"no grid of frames {frames} x resolutions {resolutions} has between {min_tokens} and "
            f"{max_tokens} tokens; theirs range from {min(counts, default=0)} to "
            f"{max(counts, default=0)}"
        )
    return fitting


def only_grid(frames: Iterable[int], resolutions: Iterable[int], model: str) -> Grid:
    """The grid of a model that trains on one.

    Args:
      frames, resolutions: candidates, one of each.
      model: what messages call it.

    Raises:
      ValueError: if there are several.
    """
    every = [Grid(t, r) for t in frames for r in resolutions]
    if len(every) != 1:
        raise ValueError(
            f"{model} trains on one sampling grid, config.grids gives {len(every)}: leave one "
            "frame number and one resolution"
        )
    return every[0]


def check_patch(grid: Grid, patch: int) -> None:
    """Raises ValueError unless a grid's pixels are a multiple of the patch."""
    if grid.resolution % patch:
        raise ValueError(
            f"grid {grid} must have pixels that are a multiple of the patch of {patch}"
        )


def max_grid(grids: Iterable[Grid], patch: int = PATCH) -> tuple[int, int, int]:
    """The smallest (T, H, W) that holds every one of `grids`, space counted in patches."""
    shapes = [grid.shape(patch) for grid in grids]
    return tuple(max(axis) for axis in zip(*shapes, strict=True))


def clip_patches(clip: np.ndarray, patch: int = PATCH) -> np.ndarray:
    """Cuts a clip into patches, row-major over (t, h, w), channel fastest inside a patch.

    Args:
      clip: [T, H, W, 3], any dtype; H and W in pixels, multiples of `patch`.
      patch: patch side in pixels.

    Returns:
      [T * H/patch * W/patch, patch * patch * 3], same dtype.

    Raises:
      ValueError: if the clip is not [T, H, W, 3] or a side is not a multiple of `patch`.
    """
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.shape[1] % patch or clip.shape[2] % patch:
        raise ValueError(
            f"a clip must be [T, H, W, 3] with sides that are multiples of {patch}, "
            f"got {tuple(clip.shape)}"
        )
    frames, height, width, _ = clip.shape
    rows, cols = height // patch, width // patch
    # A row of a patch (patch * 3 values) is contiguous in memory: moving such rows as one opaque
    # item is several times faster than a six-axis transpose of single values.
    row = np.dtype((np.void, patch * 3 * clip.itemsize))
    blocks = np.ascontiguousarray(clip).reshape(frames, height, width * 3).view(row)
    blocks = blocks.reshape(frames, rows, patch, cols).transpose(0, 1, 3, 2)
    flat = np.ascontiguousarray(blocks).view(clip.dtype)
    return flat.reshape(frames * rows * cols, patch * patch * 3)
