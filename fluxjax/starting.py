"""Starting a model from an inference checkpoint: which parameters are taken, and which stay new."""

import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.checkpoint_io import load
from fluxjax.convert.errors import WeightsError
from fluxjax.convert.states import resampled
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2

log = logging.getLogger(__name__)

_TABLE = "position_table"
_HEAD = re.compile(r"heads_\d+/")
# One of each a budget: the checkpoint may have more or fewer of them.
_PER_BUDGET = re.compile(r"(heads|poolers|decoders)_\d+/")
# What InternVideo2 does not have: dual patch norm, LPE, GPE, decoders; backbones have no fc_norm.
_NOT_IN_INTERNVIDEO2 = re.compile(
    r"patch_embed/norm(_before)?/|blocks_\d+/attn/lpe/|gpe/|(heads|decoders)_\d+/|fc_norm/"
)
_PROBE = re.compile(r"probe_(norm|mlp)/")
# Fields that change the function and that shapes do not tell, or not as clearly.
_SAME = ("depth", "num_heads", "pool_heads", "gelu")


class Start(NamedTuple):
    """What became of every parameter; paths joined by "/"."""

    taken: tuple[str, ...]
    resampled: tuple[str, ...]  # position tables of another grid
    kept: tuple[str, ...]  # initial values: other classes, or not in the checkpoint
    unused: tuple[str, ...]  # in the checkpoint only


def start_fluxvit(directory: str, model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a FluxViT that start from a FluxViT or an InternVideo2; logs what was taken.

    Parameters of equal name and shape are taken, the position table is resampled to the model's
    grid, heads of another number of classes keep their initial values. From an InternVideo2, as in
    the paper's pre-training, the pooling projector and the head start all of FluxViT's; the modules
    it does not have (dual patch norm, LPE, GPE, decoders) keep their initial values.

    Args:
      directory: of an inference checkpoint, see `fluxjax.save`.
      model: the FluxViT to start.
      variables: its initial ones.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if the checkpoint is damaged, or naming what does not fit.
    """
    source, stored = load(directory)
    if not isinstance(source, FluxViT | InternVideo2):
        raise WeightsError(
            f"{directory} holds a {type(source).__name__}; a FluxViT starts from a FluxViT or an "
            "InternVideo2"
        )
    differing = [name for name in _SAME if getattr(source, name) != getattr(model, name)]
    if differing:
        pairs = [f"{n}={getattr(source, n)!r} not {getattr(model, n)!r}" for n in differing]
        raise WeightsError(
            f"the model in {directory} has {', '.join(pairs)}; set config.model to the same"
        )
    given, new, surplus = _flat(stored["params"]), _PER_BUDGET, _PER_BUDGET
    if isinstance(source, InternVideo2):
        given = _renamed(given, len(model.budgets))
        new, surplus = _NOT_IN_INTERNVIDEO2, _PROBE
    params, start = transfer(_flat(variables["params"]), given, new, surplus, directory)
    log.info("%s", start_table(start, f"{directory} ({type(source).__name__})"))
    params = unflatten_dict({tuple(path.split("/")): value for path, value in params.items()})
    return {**variables, "params": params}


def transfer(
    initial: Mapping[str, Any],
    given: Mapping[str, Any],
    new: re.Pattern[str],
    surplus: re.Pattern[str],
    where: str,
) -> tuple[dict[str, Any], Start]:
    """Puts given parameters in the places of initial ones.

    Args:
      initial: path -> array, of the model to start.
      given: path -> array, of the checkpoint.
      new: beginnings of paths that the checkpoint may lack.
      surplus: beginnings of paths that the model may lack.
      where: the checkpoint, for the error message.

    Raises:
      WeightsError: listing every parameter that is missing, unexpected or of another shape.
    """
    result, taken, tables, kept, wrong = {}, [], [], [], []
    for path, value in initial.items():
        result[path] = value
        if path not in given:
            kept.append(path)
            if not new.match(path):
                wrong.append(f"{path} is missing")
            continue
        found, wanted = np.shape(given[path]), np.shape(value)
        if found == wanted:
            result[path] = jnp.asarray(given[path], value.dtype)
            taken.append(path)
        elif path == _TABLE and found[-1] == wanted[-1]:
            result[path] = resampled(jnp.asarray(given[path], value.dtype), wanted[:3])
            tables.append(path)
        elif _HEAD.match(path) and found[:-1] == wanted[:-1]:  # another number of classes
            kept.append(path)
        else:
            wrong.append(f"{path} is {list(found)}, the model's {list(wanted)}")
    unused = [path for path in given if path not in initial]
    wrong += [f"{path} is not in the model" for path in unused if not surplus.match(path)]
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise WeightsError(
            f"the parameters in {where} do not fit the config's model: {'; '.join(wrong[:10])}"
            f"{more}. Set config.model to the checkpoint's sizes (see its architecture.json)"
        )
    return result, Start(*(tuple(paths) for paths in (taken, tables, kept, unused)))


def start_table(start: Start, where: str) -> str:
    """A line for each kind of parameter, numbers in block names left out."""
    lines = [f"parameters started from {where}:"]
    for kind, paths in start._asdict().items():
        groups = dict.fromkeys(re.sub(r"_\d+/", "_*/", path) for path in paths)
        names = ", ".join(list(groups)[:8]) + (", .." if len(groups) > 8 else "")
        lines.append(f"  {kind:<9} {len(paths):>4}  {names}".rstrip())
    return "\n".join(lines)


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"/".join(path): value for path, value in flatten_dict(params).items()}


def _renamed(given: Mapping[str, Any], budgets: int) -> dict[str, Any]:
    """Parameters of an InternVideo2 under FluxViT's names; one projector and head a budget."""
    renamed = {}
    for path, value in given.items():
        top, _, rest = path.partition("/")
        if top in ("pooler", "head"):
            renamed.update({f"{top}s_{i}/{rest}": value for i in range(budgets)})
        else:
            renamed[path.replace("patch_embed/", "patch_embed/proj/")] = value
    if "spatial_table" in renamed:  # separate tables are added
        temporal = renamed.pop("temporal_table")[:, None, None]
        renamed[_TABLE] = renamed.pop("spatial_table")[None] + temporal
    return renamed
