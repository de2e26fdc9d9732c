"""Pictures of a selection: kept tokens lit and outlined, dropped ones dimmed. NumPy only."""

import numpy as np

DIMMED = 0.25  # brightness that a dropped token keeps
OUTLINE = (255, 190, 0)  # on a dark picture, dimming alone would not be seen


def lit(frames: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Frames with the dropped tokens dimmed and without colour, the kept ones outlined.

    Args:
      frames: uint8 [T, S, S, 3] at any resolution.
      kept: bool [T, H, W], in patches.

    Returns:
      uint8 [T, S, S, 3].

    Raises:
      ValueError: if the numbers of frames differ.
    """
    if len(frames) != len(kept):
        raise ValueError(f"{len(frames)} frames, but a selection of {len(kept)}")
    grey = frames.mean(axis=-1, keepdims=True) * DIMMED
    mask = _enlarged(kept, frames.shape[1:3])
    picture = np.where(mask[..., None], frames, grey).astype(np.uint8)
    if not kept.all():
        picture[mask & ~_inside(mask)] = OUTLINE
    return picture


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
