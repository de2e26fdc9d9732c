"""Pictures of a selection: kept tokens lit, dropped ones dimmed, merged ones coloured."""

import colorsys

import numpy as np

DIMMED = 0.25  # brightness that a dropped token keeps
TINT = 0.45  # share of a group's colour in its tokens
OUTLINE = (255, 190, 0)  # on a dark picture, dimming alone would not be seen


def lit(frames: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Frames with dropped tokens dimmed, kept ones outlined and merged ones tinted by group.

    Args:
      frames: uint8 [T, S, S, 3] at any resolution.
      groups: int [T, H, W], in patches: -1 for a dropped token, one number for tokens that were
        merged into one (see `fluxjax.serving.settings.token_groups`).

    Returns:
      uint8 [T, S, S, 3].

    Raises:
      ValueError: if the numbers of frames differ.
    """
    if len(frames) != len(groups):
        raise ValueError(f"{len(frames)} frames, but a selection of {len(groups)}")
    cells = _enlarged(groups, frames.shape[1:3])
    kept = cells >= 0
    grey = frames.mean(axis=-1, keepdims=True) * DIMMED
    picture = np.where(kept[..., None], frames, grey)
    numbers, counts = np.unique(groups, return_counts=True)
    for number in numbers[(counts > 1) & (numbers >= 0)]:
        inside = cells == number
        picture[inside] = (1 - TINT) * picture[inside] + TINT * group_colour(int(number))
    if not kept.all():
        picture[kept & ~_inside(kept)] = OUTLINE
    return picture.astype(np.uint8)


def group_colour(number: int) -> np.ndarray:
    """A strong colour; neighbouring numbers get hues far apart. [3] float, 0 to 255."""
    hue = number * 0.618034 % 1.0  # steps of the golden ratio visit all hues evenly
    return 255 * np.array(colorsys.hsv_to_rgb(hue, 0.9, 1.0))


def strip(frames: np.ndarray, gap: int = 4) -> np.ndarray:
    """Frames side by side on white; [T, S, S, 3] -> [S, T * (S + gap) - gap, 3], uint8."""
    count, height, width, _ = frames.shape
    canvas = np.full((height, count * (width + gap) - gap, 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        left = i * (width + gap)
        canvas[:, left : left + width] = frame
    return canvas


def _enlarged(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[T, H, W] cells -> [T, height, width] pixels, each the cell it lies in."""
    rows = np.arange(size[0]) * cells.shape[1] // size[0]
    columns = np.arange(size[1]) * cells.shape[2] // size[1]
    return cells[:, rows][:, :, columns]


def _inside(mask: np.ndarray) -> np.ndarray:
    """Pixels of a [T, S, S] mask whose four neighbours are in it too; the margin counts as out."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:] & padded[:, 1:-1, :-2]
