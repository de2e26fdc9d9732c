"""Starting the text tower of a dual encoder from another one's, such as CLIP's own."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.checkpoints.inference import load
from fluxjax.checkpoints.starting import start_table, transfer
from fluxjax.models.clip_text import ClipText
from fluxjax.weight_files.errors import WeightsError

log = logging.getLogger(__name__)

TOWER = "text"  # the name of the tower in dual encoders
_SAME = ("depth", "num_heads", "gelu", "epsilon", "causal")  # what shapes do not tell
_NOTHING = re.compile("(?!)")


def start_text(directory: str, model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a dual encoder with the text tower of an inference checkpoint in its place.

    Args:
      directory: of a dual encoder with a `ClipText`, such as an AVION that was made of CLIP's
        weights.
      model: what to start, a dual encoder with a `ClipText`.
      variables: its initial ones.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if the checkpoint is damaged, has no such tower, or one of other sizes.
    """
    source, stored = load(directory)
    towers = [_tower(source, stored), _tower(model, variables)]
    if towers[0] is None:
        raise WeightsError(f"{directory} holds a {type(source).__name__} without CLIP's text tower")
    differing = [
        f"{name}={getattr(towers[0], name)!r} not {getattr(towers[1], name)!r}"
        for name in _SAME
        if getattr(towers[0], name) != getattr(towers[1], name)
    ]
    if differing:
        raise WeightsError(
            f"the text tower in {directory} has {', '.join(differing)}; set config.model to the "
            "same"
        )
    initial, given = (
        {"/".join((TOWER, *path)): x for path, x in flatten_dict(tree["params"][TOWER]).items()}
        for tree in (variables, stored)
    )
    result, start = transfer(initial, given, _NOTHING, _NOTHING, directory)
    log.info("%s", start_table(start, f"{directory} (text tower)"))
    started = unflatten_dict({tuple(path.split("/")): x for path, x in result.items()})
    return {**variables, "params": {**variables["params"], **started}}


def _tower(model: nn.Module, variables: Mapping[str, Any]) -> ClipText | None:
    """The text tower of a dual encoder as it is built; None: it has none."""
    if TOWER not in variables["params"]:
        return None
    tower = model.bind(variables).text
    return tower if isinstance(tower, ClipText) else None
