"""Starting the texts of a model of video and text from another's: CLIP's own tower, or BERT."""

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.checkpoints.inference import load
from fluxjax.checkpoints.starting import start_table, transfer
from fluxjax.models.bert import Bert
from fluxjax.models.clip_text import ClipText
from fluxjax.weight_files.errors import WeightsError

log = logging.getLogger(__name__)

TOWER = "text"  # the name of the tower in models of video and text
_NOTHING = re.compile("(?!)")


class _Kind(NamedTuple):
    """A kind of tower: what messages call it, and how one starts from another, see `Rule`."""

    called: str
    same: tuple[str, ...]
    new: re.Pattern[str] = _NOTHING
    surplus: re.Pattern[str] = _NOTHING


_TOKEN_HEAD = rf"{TOWER}/(transform\w*/|token_bias$)"
_KINDS = {
    ClipText: _Kind("CLIP's text tower", ("depth", "num_heads", "gelu", "epsilon", "causal")),
    # Plain BERT attends to no videos; not every BERT predicts tokens.
    Bert: _Kind(
        "a BERT",
        ("depth", "num_heads"),
        re.compile(rf"{TOWER}/layers_\d+/cross/|{_TOKEN_HEAD}"),
        re.compile(_TOKEN_HEAD),
    ),
}


def start_text(directory: str, model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a model with the text tower of an inference checkpoint in its place.

    Args:
      directory: of a model with a text tower of the same kind, such as an AVION that was made of
        CLIP's weights, or for UMT a plain BERT.
      model: what to start, with a `ClipText` or a `Bert` called text.
      variables: its initial ones.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if the checkpoint is damaged, has no such tower, or one of other sizes.
    """
    source, stored = load(directory)
    if isinstance(source, Bert):
        given_tower, given_params = source, stored["params"]
    else:
        given_tower, given_params = _tower(source, stored), stored["params"].get(TOWER)
    tower = _tower(model, variables)
    kind = _KINDS[type(tower)]
    if type(given_tower) is not type(tower):
        raise WeightsError(f"{directory} holds a {type(source).__name__} without {kind.called}")
    differing = [
        f"{name}={getattr(given_tower, name)!r} not {getattr(tower, name)!r}"
        for name in kind.same
        if getattr(given_tower, name) != getattr(tower, name)
    ]
    if differing:
        raise WeightsError(
            f"the text tower in {directory} has {', '.join(differing)}; set config.model to the "
            "same"
        )
    initial, given = (
        {"/".join((TOWER, *path)): x for path, x in flatten_dict(params).items()}
        for params in (variables["params"][TOWER], given_params)
    )
    result, start = transfer(initial, given, kind.new, kind.surplus, directory)
    log.info("%s", start_table(start, f"{directory} (text tower)"))
    started = unflatten_dict({tuple(path.split("/")): x for path, x in result.items()})
    return {**variables, "params": {**variables["params"], **started}}


def _tower(model: nn.Module, variables: Mapping[str, Any]) -> nn.Module | None:
    """The text tower of a model as it is built; None: it has none."""
    if TOWER not in variables["params"]:
        return None
    return model.bind(variables).text
