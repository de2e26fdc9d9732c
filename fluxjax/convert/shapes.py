"""What the shapes of a state dict tell: widths, depths, grids of position tables."""

import collections
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert.untold import Untold
from fluxjax.tokens.positions import resampled
from fluxjax.weight_files.errors import WeightsError


def infer(state: Mapping[str, Any], what: str, *sources: tuple[str, int]) -> int:
    """The size that most tensors agree on.

    Args:
      state: torch name -> array.
      what: the model, for the error message.
      *sources: (regular expression of whole names, axis of the size in these tensors).

    Raises:
      WeightsError: if no tensor has such a name.
    """
    votes = collections.Counter()
    for name, value in state.items():
        shape = np.shape(value)
        for pattern, axis in sources:
            if re.fullmatch(pattern, name) and -len(shape) <= axis < len(shape):
                votes[shape[axis]] += 1
    if not votes:
        wanted = ", ".join(repr(pattern) for pattern, _ in sources)
        raise WeightsError(
            f"these are no weights of {what}: no tensor is named like {wanted}. "
            f"The first of {len(state)} names: {list(state)[:8]}"
        )
    return votes.most_common(1)[0][0]


def count(state: Mapping[str, Any], pattern: str) -> int:
    """One more than the largest number that the pattern's group captures; 0 if none does."""
    matches = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def ratio_of(hidden: int, width: int) -> float:
    """An mlp_ratio for which int(width * ratio) is exactly `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def grid_of(
    rows: int,
    patch: int,
    num_frames: int | None,
    image_size: int | tuple[int, int] | None,
    released: Mapping[int, tuple[int, int, int]],
    untold: Untold,
) -> tuple[int, int, int]:
    """The grid (T, H, W) of a position table with `rows` rows, not counting cls.

    Args:
      rows: T * H * W.
      patch: pixels a side of a patch.
      num_frames: T of the checkpoint, if known.
      image_size: pixels a side, or (height, width), of the checkpoint, if known.
      released: grids taken for that many rows where neither keyword is given.
      untold: notes a grid that the keywords do not tell in full.

    Raises:
      ValueError: if the keywords are missing or do not give that many rows.
    """
    if num_frames is None and image_size is None:
        if rows in released:
            return untold.known("grid", released[rows], "as released")
        options = [f"{t}x{g * patch}" for t, g in _square_grids(rows)]
        raise ValueError(
            f"a position table of {rows} rows may belong to several grids: frames x pixels "
            f"{', '.join(options)}; pass num_frames= or image_size= of the checkpoint"
        )
    if image_size is not None:
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        height, width = height // patch, width // patch
        grid = (num_frames or rows // max(height * width, 1), height, width)
    else:
        side = math.isqrt(rows // num_frames)
        grid = (num_frames, side, side)
    if math.prod(grid) != rows:
        raise ValueError(
            f"num_frames={num_frames}, image_size={image_size} give a grid {grid} of "
            f"{math.prod(grid)} patches of {patch} pixels, the position table has {rows} rows; "
            "pass the values of the checkpoint, not of the clips"
        )
    return grid if image_size is not None else untold.known("grid", grid, "square, as all released")


def square_grid_of(
    rows: int, patch: int, image_size: int | tuple[int, int] | None, untold: Untold
) -> tuple[int, int]:
    """The (H, W) of an image's position table with `rows` rows, not counting cls.

    Raises:
      ValueError: if `image_size` is needed or does not fit.
    """
    if image_size is None:
        side = math.isqrt(max(rows, 1))
        grid = (side, side)
        untold.known("grid", grid, "square, as all released")
    else:
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        grid = (height // patch, width // patch)
    if rows > 0 and math.prod(grid) != rows:
        raise ValueError(
            f"a position table of {rows} rows is no grid of {grid[0]} x {grid[1]} patches of "
            f"{patch} pixels; pass image_size= of the checkpoint, not of the clips"
        )
    return grid


def _square_grids(rows: int) -> list[tuple[int, int]]:
    sides = range(1, math.isqrt(rows) + 1)
    return [(rows // side**2, side) for side in sides if rows % side**2 == 0]


def on_grid(
    model: Any, variables: Mapping[str, Any], grid: tuple[int, int, int] | None
) -> tuple[Any, dict[str, Any]]:
    """The model with its position tables resampled to a grid (T, H, W); None changes nothing."""
    if grid is None or tuple(grid) == tuple(model.grid):
        return model, variables
    params = dict(variables["params"])
    for name, part in params.items():  # decoders of a student have tables of their own
        if isinstance(part, Mapping) and "position_table" in part:
            params[name] = {**part, "position_table": resampled(part["position_table"], grid)}
    if "position_table" in params:
        params["position_table"] = resampled(params["position_table"], grid)
    else:  # separate tables: a sum of tables is resampled as the sum of both
        spatial, temporal = params["spatial_table"], params["temporal_table"]
        params["spatial_table"] = resampled(spatial[None], (1, *grid[1:]))[0]
        params["temporal_table"] = resampled(temporal[:, None, None], (grid[0], 1, 1))[:, 0, 0]
    return model.clone(grid=tuple(grid)), {**variables, "params": params}
