"""Sizes of UMT's models, and the merge schedules that vid-TLDR publishes for them."""

from typing import Any

import flax.linen as nn

from fluxjax.models.umt import Umt
from fluxjax.models.umt_vision import UmtClassifier, UmtVision

_ENCODERS = {
    "s16": {"width": 384, "num_heads": 6},
    "b16": {},
    "l16": {"width": 1024, "depth": 24, "num_heads": 16},
}
_LARGE_TEXT = {
    "text_width": 1024, "text_depth": 24, "text_heads": 16, "text_hidden": 4096,
    "fusion_layer": 19, "embedding": 768,
}  # fmt: skip
# Ours, for tests and quick demonstrations; the official code has S nowhere, only its width.
_TINY = {"width": 64, "depth": 4, "num_heads": 4, "patch": 8}
_TINY_TEXT = {
    "text_width": 64, "text_depth": 4, "text_heads": 4, "text_hidden": 256, "text_length": 64,
    "fusion_layer": 2, "embedding": 64, "vocabulary": 512,
}  # fmt: skip
_TEXTS = {"ti8": _TINY_TEXT, "s16": {}, "b16": {}, "l16": _LARGE_TEXT}
_TEACHERS = {"ti8": 64, "s16": 512, "b16": 512, "l16": 768}  # width of CLIP's features

SIZES: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {}
for _size, _encoder in {"ti8": _TINY, **_ENCODERS}.items():
    _grid = (8, 6, 6) if _size == "ti8" else (8, 14, 14)
    _student = {"taught_layers": min(6, _encoder.get("depth", 12)), "pooling_norm": False}
    SIZES |= {
        f"umt_{_size}": (Umt, _encoder | _TEXTS[_size]),
        f"umt_vision_{_size}": (UmtVision, _encoder),
        f"umt_student_{_size}": (
            UmtVision, _encoder | _student | {"taught_width": _TEACHERS[_size]},
        ),
        f"umt_classifier_{_size}": (UmtClassifier, _encoder | {"grid": _grid}),
    }  # fmt: skip

# Tokens that the first blocks merge, by task and size: README of mlvlab/vid-TLDR, 12 frames of 224
# pixels, 2352 tokens.
MERGE_SCHEDULES: dict[str, dict[str, tuple[int, ...]]] = {
    "msrvtt": {"b16": (600, 200, 100), "l16": (550, 400)},
    "msvd": {"b16": (450, 250, 200), "l16": (600, 200, 100, 100)},
    "activitynet": {"b16": (500,), "l16": (600, 300)},
    "didemo": {"b16": (250, 150, 150, 150), "l16": (800, 100)},
    "lsmdc": {"b16": (400, 150, 150), "l16": (250, 250, 200, 200)},
    "ssv2_label": {"b16": (200, 200, 200, 100), "l16": (450, 250, 100)},
    "ssv2_template": {"b16": (400, 300), "l16": (350, 300, 100, 50)},
    "msrvtt_qa": {"b16": (600, 200), "l16": (400, 400, 100)},
    "msvd_qa": {"b16": (600, 200), "l16": (400, 400, 100)},
}


def merge_schedule(task: str, size: str = "b16") -> tuple[int, ...]:
    """The schedule that vid-TLDR publishes for a task ("msrvtt") and a size ("b16" or "l16").

    Raises:
      ValueError: if none is published: there is none for zero-shot, ANet-QA and MSRVTT-MC.
    """
    schedules = MERGE_SCHEDULES.get(task, {})
    if size not in schedules:
        known = ", ".join(f"{name} ({'/'.join(s)})" for name, s in MERGE_SCHEDULES.items())
        raise ValueError(f"no merge schedule is published for {task!r}, {size!r}; known: {known}")
    return schedules[size]
