"""The state dict in what a training script saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.tensors import TensorRef

logger = logging.getLogger(__name__)

# Where training scripts keep the model's state dict, in the order tried: DeepSpeed ('module'),
# DeiT and its heirs ('model'), Lightning and torchvision's examples ('state_dict'), PySlowFast
# ('model_state'); averaged weights ('ema', ..) only where there are no others.
WRAPPERS = (
    *("module", "model", "state_dict", "model_state_dict", "model_state"),
    *("model_ema", "ema", "state_dict_ema", "ema_state_dict"),
)
_MAX_WRAPPERS = 2
_PARALLEL_PREFIX = "module."  # torch.nn.parallel.DistributedDataParallel


def find_state_dict(tree: object) -> dict[str, np.ndarray]:
    """The named arrays of a checkpoint's model.

    Looks under the names of `WRAPPERS`, in this order and up to two deep, for a mapping that holds
    tensors; else takes `tree` itself. Where several hold tensors, a warning says which was taken.
    Entries that are no tensors (epoch, arguments, ...) are left out. If every name starts with
    'module.', as DistributedDataParallel has it, that prefix is cut once.

    Raises WeightsError with the keys that were seen if there are no tensors.
    """
    state = _search(tree, _MAX_WRAPPERS)
    if not state:
        raise WeightsError(
            f"no tensors found under {', '.join(WRAPPERS)} or at the top: {_seen(tree)}"
        )
    if all(name.startswith(_PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(_PARALLEL_PREFIX): value for name, value in state.items()}
    return {
        name: value.array() if isinstance(value, TensorRef) else value
        for name, value in state.items()
    }


def _search(tree: object, depth: int) -> dict[str, TensorRef | np.ndarray]:
    if not isinstance(tree, Mapping):
        return {}
    if depth:
        under = {wrapper: _search(tree.get(wrapper), depth - 1) for wrapper in WRAPPERS}
        holding = [wrapper for wrapper in WRAPPERS if under[wrapper]]
        if holding:
            if others := holding[1:]:
                logger.warning(
                    "the checkpoint holds weights under %s: %r is read; to read another, pass a "
                    "file or mapping of that one",
                    ", ".join(map(repr, [holding[0], *others])),
                    holding[0],
                )
            return under[holding[0]]
    return {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, TensorRef | np.ndarray)
    }


def _seen(tree: object) -> str:
    if not isinstance(tree, Mapping):
        return f"the file holds a {type(tree).__name__}"
    keys = [shown(key, 40) for key in list(tree)[:20]]
    return f"the file has {len(tree)} keys: {', '.join(keys)}"
