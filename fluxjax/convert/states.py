"""State dicts: where they come from, and the names that wrappers leave in them."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.weight_files.errors import WeightsError
from fluxjax.weight_files.readers import find_state_dict, read_weights

logger = logging.getLogger(__name__)

# Parts of a name, at any level, that a module's wrapper adds: DDP and DeepSpeed, FSDP, activation
# checkpointing, torch.compile, Lightning Fabric.
_WRAPPING = re.compile(
    r"(^|\.)(module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod|_forward_module)"
    r"(?=\.)"
)
# What the attribute that holds the model leaves in front.
PREFIXES = ("model.", "backbone.", "encoder.", "net.")
# The same in models of video and text: what has no such prefix is of the other parts.
_VISION = ("vision_encoder.", "video_encoder.", "visual_encoder.", "image_encoder.")
_FLAT = re.compile(r"(^|\.)(_flat_param|flat_param)\b")


def state_of(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The named arrays of a weight file or of a mapping, without wrappers and prefixes.

    Args:
      weights: a path (see `weight_files.readers.read_weights`), or a mapping of names to numpy,
        JAX or torch arrays, which may be wrapped like a training checkpoint ("module", ..).

    Raises:
      WeightsError: if there are no weights.
    """
    if isinstance(weights, Mapping):
        return strip_prefixes(find_state_dict(_numpy_tree(weights)))
    return strip_prefixes(read_weights(weights))


def _numpy_tree(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numpy_tree(inner) for name, inner in value.items()}
    if hasattr(value, "detach"):  # a torch tensor; numpy knows no torch.bfloat16
        value = value.detach().cpu()
        return value.float().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value) if isinstance(value, jax.Array) else value


def strip_prefixes(state: Mapping[str, Any], prefixes: Sequence[str] = PREFIXES) -> dict[str, Any]:
    """Removes wrappers' parts at every level, and prefixes, repeated ones too, from every name.

    Raises:
      WeightsError: if two names become the same, or FSDP flattened the parameters.
    """
    stripped = {}
    for name, value in state.items():
        if _FLAT.search(name):
            raise WeightsError(
                f"{name!r} holds parameters that FSDP flattened; save the model with "
                "StateDictType.FULL_STATE_DICT"
            )
        short = _WRAPPING.sub("", name).removeprefix(".")
        while prefix := next((p for p in prefixes if short.startswith(p)), None):
            short = short[len(prefix) :]
        if short in stripped:
            raise WeightsError(
                f"{name!r} and another tensor are both {short!r} without prefixes; "
                "pass only one model's tensors"
            )
        stripped[short] = value
    return stripped


def vision_part(state: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model of video and text the vision encoder's tensors; other state dicts as they are."""
    for prefix in _VISION:
        part = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if part:
            others = sorted({n.split(".")[0] for n in state if not n.startswith(prefix)})
            logger.info("%d tensors of %s are read, those of %s are not", len(part), prefix, others)
            return strip_prefixes(part)
    return dict(state)
