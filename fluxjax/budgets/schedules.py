"""Merge schedules: as people write them, and those that save a given share of the encoder."""

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from fluxjax.models.umt_compute import encoder_gmacs, tokens_after_blocks
from fluxjax.models.umt_encoder import UmtFields

Schedule = tuple[float, ...]

BLOCKS, LEVELS = 4, 16  # blocks that a searched schedule merges in; steps from none to all tokens
TOLERANCE = 0.02  # of a saving that was asked for
NONE = "none"


def parse_schedule(text: str) -> Schedule:
    """Tokens that the first blocks merge, or below 1 their shares: "600,200,100"; "none".

    Raises:
      ValueError: on other texts.
    """
    if text == NONE:
        return ()
    try:
        return tuple(float(r) if "." in r else int(r) for r in text.split(","))
    except ValueError:
        raise ValueError(
            f"merge schedule {text!r} must be numbers of tokens or shares below 1 with commas, "
            "such as 600,200,100 or 0.25,0.1; or none"
        ) from None


def schedule_name(merge: Sequence[float]) -> str:
    """What `parse_schedule` reads."""
    return ",".join(map(str, merge)) or NONE


def saving(model: UmtFields, grid: tuple[int, int, int], merge: Sequence[float]) -> float:
    """Share of the encoder's multiply-accumulates that a schedule saves on a grid of tokens."""
    return 1.0 - encoder_gmacs(model, grid, merge) / encoder_gmacs(model, grid)


def search(
    model: UmtFields, grid: tuple[int, int, int], save: float, count: int
) -> tuple[Schedule, ...]:
    """Schedules of about one saving, from those that merge in the first block to those that wait.

    The first blocks merge multiples of a sixteenth of all tokens, at most half of those that are
    left. Of all such schedules whose saving is as asked, in closed form, these are evenly chosen by
    how early they merge. Which of them is best the data must say.

    Args:
      model: whose encoder merges.
      grid: (T, H, W) of a clip in tokens.
      save: share of the plain encoder's multiply-accumulates.
      count: of schedules, at most.

    Raises:
      ValueError: if none saves that much.
    """
    tokens = grid[0] * grid[1] * grid[2]
    found = {merge: saving(model, grid, merge) for merge in _possible(tokens, model.depth)}
    fitting = [merge for merge, saved in found.items() if abs(saved - save) <= TOLERANCE]
    if not fitting:
        most = max(found, key=found.get)
        raise ValueError(
            f"--save={save:g}: no schedule of the first {BLOCKS} blocks saves that share of the "
            f"encoder on {tokens} tokens; the most is {found[most]:.2f}, of "
            f"{schedule_name(most)}"
        )
    fitting.sort(key=lambda merge: (_lateness(merge), merge))
    chosen = np.linspace(0, len(fitting) - 1, min(count, len(fitting))).round().astype(int)
    return tuple(fitting[i] for i in chosen)


@functools.cache
def _possible(tokens: int, depth: int) -> tuple[Schedule, ...]:
    """Every schedule of `search`, without zeros at its end."""
    step = max(tokens // LEVELS, 1)
    schedules: dict[Schedule, None] = {}
    for levels in itertools.product(range(LEVELS // 2 + 1), repeat=min(BLOCKS, depth - 1)):
        merge, left = [], tokens
        for level in levels:
            merge.append(level * step)
            if merge[-1] > left // 2:
                break
            left -= merge[-1]
        else:
            while merge and not merge[-1]:
                merge.pop()
            schedules[tuple(merge)] = None
    return tuple(schedules)


def _lateness(merge: Schedule) -> float:
    """Block in which a schedule merges, in the mean over the merged tokens."""
    return sum(block * r for block, r in enumerate(merge)) / sum(merge)


def tokens_left(model: UmtFields, grid: tuple[int, int, int], merge: Sequence[float]) -> int:
    """Of a clip's tokens those that come out of the encoder."""
    return tokens_after_blocks(grid[0] * grid[1] * grid[2], merge, model.depth)[-1]
