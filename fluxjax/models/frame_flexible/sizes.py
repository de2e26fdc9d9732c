"""Names of the frame flexible networks and their plain forms: sizes of the official ones."""

from typing import Any

import flax.linen as nn

from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.tea import Tea
from fluxjax.models.frame_flexible.tsm import Tsm
from fluxjax.models.frame_flexible.uniformer import UniFormer

# "ti" is ours, for tests and quick demonstrations.
_PLAIN: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "tsm_ti": (Tsm, {"layers": (1, 1, 1, 1), "planes": (8, 16, 24, 32), "stem": 16}),
    "tsm_r18": (Tsm, {"layers": (2, 2, 2, 2), "bottleneck": False}),
    "tsm_r50": (Tsm, {}),
    "tea_ti": (Tea, {"layers": (1, 1, 1, 1), "planes": (10, 15, 20, 25), "stem": 16}),
    "tea_r50": (Tea, {}),
    "slowfast_ti": (SlowFast, {"layers": (1, 1, 1, 1), "width": 16}),
    "slowfast_r50": (SlowFast, {}),
    "uniformer_ti": (
        UniFormer,
        {"layers": (1, 1, 1, 1), "widths": (16, 32, 48, 64), "head_dim": 16},
    ),
    "uniformer_s": (UniFormer, {}),
    "uniformer_b": (UniFormer, {"layers": (5, 8, 20, 7)}),
}


def _flexible(kind: type[nn.Module], fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with the frame numbers of the paper; SlowFast's are the fast pathway's."""
    return fields | {"frames": (16, 32, 64) if kind is SlowFast else (4, 8, 16)}


SIZES = _PLAIN | {
    f"{name}_ffn": (kind, _flexible(kind, fields)) for name, (kind, fields) in _PLAIN.items()
}
