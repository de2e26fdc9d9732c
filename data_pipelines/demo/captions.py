"""Captions of the demo corpus: what moves, which way, over what; said of what was drawn."""

from __future__ import annotations

import itertools

import numpy as np

from data_pipelines.demo import render
from data_pipelines.demo.motion import VARIANTS

COUNT = 3  # phrasings of a clip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WHAT = ("a handwritten {word}", "the digit {word}", "the number {number}", "a scanned {word}")
_HOW = {
    "right": ("moves to the right", "slides from left to right", "goes right"),
    "left": ("moves to the left", "slides from right to left", "goes left"),
    "grow": ("grows", "gets larger", "comes closer"),
    "shrink": ("shrinks", "gets smaller", "goes away into the distance"),
    "circle_clockwise": ("moves in a circle, clockwise", "goes round clockwise"),
    "circle_counterclockwise": (
        "moves in a circle, counterclockwise",
        "goes round counterclockwise",
    ),
    "shake_slow": ("sways slowly from side to side", "swings left and right, slowly"),
    "shake_fast": ("shakes quickly from side to side", "trembles left and right, fast"),
}
# Of the photo, not of what it shows: a clip may have a part without the flower.
_WHERE = ("over a {photo} photo", "in front of a {photo} photo", "on a {photo} picture")


def captions(variant: str, split: str, index: int, clip: render.Clip) -> tuple[str, ...]:
    """`COUNT` different captions of example `index`: a pure function of its arguments.

    Args:
      variant, split, index: name the example, and so the phrasings.
      clip: as `render.render` draws it.
    """
    rng = np.random.default_rng([*render.seed(variant, split, index), 1])  # 1: not the clip's
    sentences = phrases(VARIANTS[variant].motions[clip.label])
    chosen = rng.choice(len(sentences), COUNT, replace=False)
    names = {
        "word": DIGITS[clip.digit],
        "number": clip.digit,
        "photo": render.PHOTOS[clip.photo],
    }
    return tuple(sentences[i].format(**names) for i in chosen)


def phrases(*motions: str) -> list[str]:
    """Every phrasing of the motions, with {word} or {number} and {photo}; of none: of all."""
    ways = itertools.chain(*(_HOW[motion] for motion in motions or _HOW))
    return [f"{what} {how} {where}" for what, how, where in itertools.product(_WHAT, ways, _WHERE)]
