"""Draws the clips: real scanned digits over real photo texture, the digit moving.

Sources, both inside scikit-learn's wheel: `load_digits` (1,797 scans of 8x8, CC BY 4.0) and the
photos china.jpg and flower.jpg (CC BY). Train and test share neither a scan nor a part of a photo.
"""

from __future__ import annotations

import colorsys
import dataclasses
import functools

import numpy as np
from PIL import Image, ImageFilter

from data_pipelines.demo import motion as motion_lib
from data_pipelines.demo.motion import FRAME_SIZE, NUM_FRAMES, VARIANTS, Variant

SPLITS = ("train", "test")
# A cut in file order, not a random one: neighbouring scans tend to be by the same hand.
FIRST_TEST_DIGIT = 1437
# Columns [from, to) of the 640 pixel wide photos: both halves have sharp and plain parts, and the
# gap keeps neighbouring texture apart.
COLUMNS = {"train": (0, 340), "test": (360, 640)}
_LUMA = np.array([0.299, 0.587, 0.114])
_SEED = 20240  # names this corpus; another number makes another corpus


@dataclasses.dataclass(frozen=True)
class Clip:
    """One rendered example: frames uint8 ``[T, H, W, 3]``, and what it was made of."""

    frames: np.ndarray
    label: int
    digit: int
    scan: int  # index into load_digits
    photo: int
    columns: tuple[int, int]  # of the photo that were used
    path: np.ndarray  # [T, 3] x, y, size


PHOTOS = ("landscape", "flower")  # what the photos of `sources` show, each as a whole


@functools.cache
def sources() -> tuple[np.ndarray, np.ndarray, tuple[Image.Image, ...]]:
    """Scans float64 ``[1797, 8, 8]`` in 0..1, their digits int64 ``[1797]``, and the two photos."""
    from sklearn import datasets

    digits = datasets.load_digits()
    photos = tuple(Image.fromarray(image) for image in datasets.load_sample_images().images)
    return digits.images / 16.0, digits.target, photos


def render(variant_name: str, split: str, index: int) -> Clip:
    """Draws example `index` of a split: a pure function of its three arguments.

    Raises:
      ValueError: unknown variant or split.
    """
    variant = lookup(variant_name)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the demo corpus has {SPLITS}")
    rng = np.random.default_rng(seed(variant_name, split, index))
    label = index % len(variant.motions)  # balanced, and so is every prefix
    path = motion_lib.trajectory(variant, variant.motions[label], rng)
    scans, digits, _ = sources()
    scan_range = (0, FIRST_TEST_DIGIT) if split == "train" else (FIRST_TEST_DIGIT, len(scans))
    scan = int(rng.integers(*scan_range))
    frames, photo, columns = _background(variant, COLUMNS[split], rng)
    fill, halo = _colours(frames, rng)
    _paint(frames, scans[scan], path, fill, halo)
    return Clip(frames, label, int(digits[scan]), scan, photo, columns, path)


def seed(variant_name: str, split: str, index: int) -> list[int]:
    """What an example's draws begin with."""
    return [_SEED, list(VARIANTS).index(variant_name), SPLITS.index(split), index]


def lookup(variant_name: str) -> Variant:
    """The variant of that name, or a ValueError that lists the names."""
    if variant_name not in VARIANTS:
        raise ValueError(f"unknown demo variant {variant_name!r}; choose from {sorted(VARIANTS)}")
    return VARIANTS[variant_name]


def _background(
    variant: Variant, columns: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, int, tuple[int, int]]:
    """A slowly drifting piece of a photo: frames, the photo's index, the columns used."""
    _, _, photos = sources()
    index = int(rng.integers(len(photos)))
    photo = photos[index]
    side = int(rng.integers(variant.crop[0], variant.crop[1] + 1))
    left = int(rng.integers(columns[0], columns[1] - side + 1))
    top = int(rng.integers(0, photo.height - side + 1))
    mirrored = bool(rng.integers(2))
    blur, contrast = rng.uniform(*variant.blur), rng.uniform(*variant.contrast)
    brightness = rng.uniform(-0.12, 0.12) * 255.0
    angle, drift = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, variant.drift)

    margin = int(np.ceil(variant.drift / 2.0)) + 1
    canvas_side = FRAME_SIZE + 2 * margin
    piece = photo.crop((left, top, left + side, top + side))
    piece = piece.resize((canvas_side, canvas_side), Image.Resampling.BICUBIC)
    if mirrored:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if blur:
        piece = piece.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(piece, np.float32)
    mean = pixels.mean(axis=(0, 1))
    # Towards mid grey, so that there is room for a brighter and for a darker digit.
    pixels = contrast * (pixels - mean) + 0.6 * mean + 0.4 * 128.0 + brightness
    canvas = np.clip(pixels, 0, 255).astype(np.uint16)
    steps = drift * np.linspace(-0.5, 0.5, NUM_FRAMES)
    frames = np.stack(
        [_view(canvas, margin + np.sin(angle) * s, margin + np.cos(angle) * s) for s in steps]
    )
    return frames, index, (left, left + side)


def _view(canvas: np.ndarray, top: float, left: float) -> np.ndarray:
    """The FRAME_SIZE square of the canvas at a sub-pixel corner, bilinear, as uint8.

    In sixteenths of a pixel: 255 * 16 * 16 fits uint16, which is five times faster than floats.
    """
    row, dy = divmod(round(16 * top), 16)
    column, dx = divmod(round(16 * left), 16)
    piece = canvas[row : row + FRAME_SIZE + 1, column : column + FRAME_SIZE + 1]
    piece = piece[:, :-1] * np.uint16(16 - dx) + piece[:, 1:] * np.uint16(dx)
    piece = piece[:-1] * np.uint16(16 - dy) + piece[1:] * np.uint16(dy)
    return ((piece + np.uint16(128)) >> 8).astype(np.uint8)


def _colours(frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random colour that stands out from the background, and its outline; RGB in 0..255."""
    behind = frames[NUM_FRAMES // 2].mean(axis=(0, 1)) @ _LUMA
    candidates = rng.uniform([0.0, 0.3, 0.25], [1.0, 1.0, 1.0], (64, 3))
    candidates = 255.0 * np.array([colorsys.hsv_to_rgb(*hsv) for hsv in candidates])
    difference = np.abs(candidates @ _LUMA - behind)
    clear = difference >= 80.0
    fill = candidates[clear.argmax() if clear.any() else difference.argmax()]
    halo = np.full(3, 10.0 if fill @ _LUMA > behind else 245.0)
    return fill, halo


def _paint(
    frames: np.ndarray, scan: np.ndarray, path: np.ndarray, fill: np.ndarray, halo: np.ndarray
) -> None:
    """Draws the scan into the frames, in place, at sub-pixel position and size.

    Cubic interpolation is separable, so a frame's coverage is ``rows @ scan @ columns.T`` with two
    thin matrices ``[pixels, 8]``, at any scale. The outline is a lower threshold on the same field.
    """
    x, y, size = path.T
    rows, row_spans = _cubic_weights(y, size, len(scan))
    columns, column_spans = _cubic_weights(x, size, len(scan))
    left, right = np.float32(255.0 * rows @ scan), np.float32(columns.transpose(0, 2, 1))
    # Both thresholds and the mixing depend on the field alone: tables over its 256 levels.
    level = np.arange(256) / 255.0
    ink = _smoothstep((level - 0.35) / 0.3)[:, None]
    edge = 0.45 * _smoothstep((level - 0.02) / 0.3)[:, None] * (1.0 - ink)
    kept = np.float32(np.repeat(1.0 - edge - ink, 3, axis=1))
    added = np.float32(edge * halo + ink * fill + 0.5)  # 0.5 rounds
    for frame, a, b, (y0, y1), (x0, x1) in zip(
        frames, left, right, row_spans, column_spans, strict=True
    ):
        field = np.clip(a[y0:y1] @ b[:, x0:x1], 0.0, 255.0).astype(np.uint8)
        window = frame[y0:y1, x0:x1]
        mixed = np.take(kept, field, axis=0)
        mixed *= window
        mixed += np.take(added, field, axis=0)
        window[:] = mixed


def _cubic_weights(
    centre: np.ndarray, size: np.ndarray, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys' cubic (a = -0.5) from `cells` samples to the pixels of each frame.

    Args:
      centre: ``[T]`` centre of the box along this axis, in pixels.
      size: ``[T]`` side of the box.
      cells: samples along the side.

    Returns:
      float64 ``[T, FRAME_SIZE, cells]``, zero outside the scan, and int ``[T, 2]``: the span of
      pixels that can be reached (the box, and one cell more for its soft edge).
    """
    origin, reach = (centre - size / 2.0)[:, None], size / 2.0 + size / cells
    where = (np.arange(FRAME_SIZE) + 0.5 - origin) * cells / size[:, None] - 0.5
    d = np.abs(where[..., None] - np.arange(cells))
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0))
    spans = np.stack([np.floor(centre - reach), np.ceil(centre + reach)], axis=1)
    return weights, np.clip(spans, 0, FRAME_SIZE).astype(int)


def _smoothstep(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0.0, 1.0)
    return value * value * (3.0 - 2.0 * value)
