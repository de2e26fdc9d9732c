"""Official weights of frame flexible networks: which network they are of, by their names.

Source: names of BeSpontaneous/FFN-pytorch. A network is a module of `_NETWORKS` with `recognises`,
`load` and `TABLES`.
"""

import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from fluxjax.convert import ffn_2d, ffn_3d
from fluxjax.weight_files.errors import WeightsError

_NETWORKS = {"TSM, TEA": ffn_2d, "SlowFast, UniFormer": ffn_3d}
TABLES = {kind: rows for network in _NETWORKS.values() for kind, rows in network.TABLES.items()}


def load(
    state: Mapping[str, np.ndarray], source: str | os.PathLike | None = None, **options: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the network that a state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from, named in the log.
      **options: of the network, see `load` in `fluxjax.convert.ffn_2d` and `.ffn_3d`.

    Raises:
      WeightsError: if the names are of no network, or listing those that do not fit.
      ValueError: on a keyword that is needed, unknown, or contradicts the weights.
    """
    for network in _NETWORKS.values():
        if network.recognises(state):
            return network.load(state, source, **options)
    raise WeightsError(
        f"these are no weights of a frame flexible network ({', '.join(_NETWORKS)}). The first of "
        f"{len(state)} names: {list(state)[:8]}"
    )
