"""Names of the frame flexible networks and their plain forms: sizes of the official ones."""

from typing import Any

import flax.linen as nn

from fluxjax.models.frame_flexible.tsm import Tsm

_FRAMES = (4, 8, 16)
# "ti" is ours, for tests and quick demonstrations.
_PLAIN: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "tsm_ti": (Tsm, {"layers": (1, 1, 1, 1), "planes": (8, 16, 24, 32), "stem": 16}),
    "tsm_r18": (Tsm, {"layers": (2, 2, 2, 2), "bottleneck": False}),
    "tsm_r50": (Tsm, {}),
}
SIZES = _PLAIN | {
    f"{name}_ffn": (kind, fields | {"frames": _FRAMES}) for name, (kind, fields) in _PLAIN.items()
}
