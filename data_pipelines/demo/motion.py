"""What moves in the demo corpus, and how: trajectories whose middle frame tells nothing.

The label of a clip is its motion. In the middle of the clip, position and size come from one
distribution for all classes. Opposite motions (right and left, grow and shrink, both circles) are
each other's time reversal, so a frame from a random time, or shuffled frames, cannot tell them
apart. (More is impossible without jumps: something that only moves right spreads further over
a clip than something that stays where it is.) Circle and shake are at rest in distribution: the
position is ``centre + radius * (cos phase, sin phase)`` in every class, and only they advance the
phase.
"""

from __future__ import annotations

import dataclasses

import numpy as np

FRAME_SIZE = 128  # pixels, square
NUM_FRAMES = 32
FPS = 16


@dataclasses.dataclass(frozen=True)
class Variant:
    """Ranges from which a clip is drawn; lengths in pixels, times in clips (the clip lasts 1).

    Attributes:
      motions: class names; the label is the index.
      num_examples: (train, test).
      size: side of the 8x8 digit's box in the middle frame.
      centre: largest offset (x, y) of the centre from the middle of the picture.
      radius: of the ring around the centre on which the middle position lies; amplitude of circle
        and shake.
      travel: path length of right and left.
      growth: natural logarithm of the size ratio between last and first frame.
      turns: revolutions of a circle.
      shakes: periods of a (slow, fast) shake, each a range.
      crop: side of the square cut from the photo for the background.
      blur: standard deviation of the background's blur.
      contrast: share of the photo's contrast that is kept.
      drift: largest shift of the background over the clip, in any direction.
      captioned: whether the corpus has texts as well.
    """

    motions: tuple[str, ...]
    num_examples: tuple[int, int]
    size: tuple[float, float]
    centre: tuple[float, float]
    radius: tuple[float, float]
    travel: tuple[float, float]
    growth: tuple[float, float]
    turns: tuple[float, float]
    shakes: tuple[tuple[float, float], tuple[float, float]]
    crop: tuple[int, int]
    blur: tuple[float, float]
    contrast: tuple[float, float]
    drift: float
    captioned: bool = False


EASY = Variant(
    motions=("right", "left", "grow", "shrink"),
    num_examples=(2048, 512),
    size=(45.0, 60.0),
    centre=(11.0, 20.0),
    radius=(0.0, 0.0),
    travel=(32.0, 44.0),
    growth=(0.55, 0.8),
    turns=(0.0, 0.0),
    shakes=((0.0, 0.0), (0.0, 0.0)),
    crop=(100, 190),
    blur=(4.0, 7.0),
    contrast=(0.35, 0.55),
    drift=2.0,
)

HARD = Variant(
    motions=(
        "right",
        "left",
        "circle_clockwise",
        "circle_counterclockwise",
        "shake_slow",
        "shake_fast",
        "grow",
        "shrink",
    ),
    num_examples=(4096, 1024),
    size=(20.0, 28.0),
    centre=(12.0, 20.0),
    radius=(11.0, 16.0),
    travel=(28.0, 42.0),
    growth=(0.7, 1.0),
    turns=(0.8, 1.3),
    shakes=((0.9, 1.4), (2.4, 3.2)),
    crop=(110, 200),
    blur=(0.0, 0.0),
    contrast=(0.85, 1.0),
    drift=5.0,
)

# For texts: every motion of the hard corpus, with digits that are large enough to be read.
CAPTIONS = dataclasses.replace(
    HARD,
    num_examples=(3072, 512),
    size=(32.0, 40.0),
    centre=(11.0, 14.0),
    radius=(10.0, 12.0),
    travel=(28.0, 36.0),
    captioned=True,
)
# For texts that a small model learns in minutes: few motions, digits that fill half of the frame.
CAPTIONS_EASY = dataclasses.replace(
    EASY,
    num_examples=(3072, 512),
    size=(64.0, 80.0),
    centre=(2.0, 8.0),
    growth=(0.45, 0.6),
    captioned=True,
)

# The order is a part of the seed of each clip: further variants go to the end.
VARIANTS = {"easy": EASY, "hard": HARD, "captions": CAPTIONS, "captions_easy": CAPTIONS_EASY}


def trajectory(variant: Variant, motion: str, rng: np.random.Generator) -> np.ndarray:
    """Position and size of the digit in every frame of one clip.

    Args:
      variant: ranges to draw from.
      motion: one of ``variant.motions``.
      rng: always advanced by the same number of draws, whatever the motion.

    Returns:
      float64 ``[NUM_FRAMES, 3]``: x and y of the digit's centre (right, down) and the side of its
      box, in pixels. The box stays inside the picture.

    Raises:
      ValueError: the variant has no such motion.
    """
    if motion not in variant.motions:
        raise ValueError(f"unknown motion {motion!r}; this variant has {variant.motions}")
    offset = rng.uniform(-1.0, 1.0, 2) * variant.centre
    radius = rng.uniform(*variant.radius)
    phase = rng.uniform(0.0, 2.0 * np.pi)
    log_size = rng.uniform(*np.log(variant.size))
    travel = rng.uniform(*variant.travel)
    growth = rng.uniform(*variant.growth)
    turns = rng.uniform(*variant.turns)
    slow, fast = (rng.uniform(*shakes) for shakes in variant.shakes)

    # Time is 0 in the middle of the clip, where no class has moved yet: one common distribution.
    time = np.linspace(-0.5, 0.5, NUM_FRAMES)
    centre = FRAME_SIZE / 2.0 + offset
    x = np.full(NUM_FRAMES, centre[0] + radius * np.cos(phase))
    y = np.full(NUM_FRAMES, centre[1] + radius * np.sin(phase))
    log_sizes = np.full(NUM_FRAMES, log_size)
    match motion:
        case "right":
            x = x + travel * time
        case "left":
            x = x - travel * time
        case "grow":
            log_sizes = log_sizes + growth * time
        case "shrink":
            log_sizes = log_sizes - growth * time
        case "circle_clockwise" | "circle_counterclockwise":  # y points down: + is clockwise
            sign = 1.0 if motion == "circle_clockwise" else -1.0
            angle = phase + sign * 2.0 * np.pi * turns * time
            x = centre[0] + radius * np.cos(angle)
            y = centre[1] + radius * np.sin(angle)
        case "shake_slow" | "shake_fast":
            periods = slow if motion == "shake_slow" else fast
            x = centre[0] + radius * np.cos(phase + 2.0 * np.pi * periods * time)
        case _:
            raise ValueError(f"motion {motion!r} is listed by the variant but has no trajectory")
    return np.stack([x, y, np.exp(log_sizes)], axis=1)
