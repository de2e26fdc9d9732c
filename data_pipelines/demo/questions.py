"""Questions about clips of the demo corpus: which way, which digit, over what."""

from __future__ import annotations

from data_pipelines.demo.captions import DIGITS

KINDS = ("motion", "digit", "photo")
_WAYS = {
    "right": "to the right",
    "left": "to the left",
    "grow": "closer",
    "shrink": "away",
    "circle_clockwise": "clockwise",
    "circle_counterclockwise": "counterclockwise",
    "shake_slow": "slowly from side to side",
    "shake_fast": "quickly from side to side",
}


def ask(kind: str, motion: str, digit: int, photo: str) -> tuple[str, str]:
    """A question and its answer.

    Args:
      kind: of `KINDS`.
      motion, digit, photo: of the clip, by their names in the corpus; the digit 0 to 9.
    """
    word = DIGITS[digit]
    return {
        "motion": (f"Which way does the {word} move?", _WAYS[motion]),
        "digit": ("Which digit moves?", word),
        "photo": (f"What is behind the {word}?", photo),
    }[kind]
