"""Starting a model from an inference checkpoint: which parameters are taken, and which stay new."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.checkpoints.inference import load
from fluxjax.tokens.positions import resampled
from fluxjax.weight_files.errors import WeightsError

log = logging.getLogger(__name__)

POSITION_TABLE = "position_table"
_OFFSETS = re.compile(r".*/cross_attention/w[12]$")  # [2h-1, 2w-1, C]
_TEMPORAL = re.compile(r".*/temporal(/position|_table)$")  # [T, C]
HEAD = re.compile(r"head(s_\d+)?/")  # of any number of classes


class Rule(NamedTuple):
    """How a model starts from a checkpoint of a class.

    Attributes:
      source: that class.
      same: fields that change the function and that shapes do not tell, or not as clearly; pairs
        (the model's, the source's) where the names differ.
      new: beginnings of paths that the checkpoint may lack.
      surplus: beginnings of paths that the model may lack.
      renamed: (parameters, model) -> parameters under the model's names; the values of other
        collections, such as batch_stats, likewise.
    """

    source: type[nn.Module]
    same: tuple[str | tuple[str, str], ...]
    new: re.Pattern[str]
    surplus: re.Pattern[str]
    renamed: Callable[[dict[str, Any], nn.Module], dict[str, Any]] = lambda given, model: given


_rules: dict[type[nn.Module], tuple[Rule, ...]] = {}


def register_start(model_class: type[nn.Module], *rules: Rule) -> None:
    """Lets models of a class start from checkpoints: the first rule of the source's class counts.

    Those of the models here are in `start_rules`; a new system registers its own where its task
    is defined.

    Raises:
      ValueError: if the class has rules already.
    """
    if model_class in _rules:
        raise ValueError(f"{model_class.__name__} has rules already; give all of them at once")
    _rules[model_class] = rules


class Start(NamedTuple):
    """What became of every parameter; paths joined by "/"."""

    taken: tuple[str, ...]
    resampled: tuple[str, ...]  # position tables of another grid
    kept: tuple[str, ...]  # initial values: other classes, or not in the checkpoint
    unused: tuple[str, ...]  # in the checkpoint only


def start_model(directory: str, model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a model that start from an inference checkpoint; logs what was taken.

    Parameters of equal name and shape are taken, position tables are resampled to the model's
    grid, heads of another number of classes keep their initial values. What a model may start from
    is registered, see `register_start` and `start_rules`.

    Args:
      directory: of an inference checkpoint, see `fluxjax.save`.
      model: what to start.
      variables: its initial ones.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if the checkpoint is damaged, or naming what does not fit.
    """
    return start_from(*load(directory), model, variables, str(directory))


def start_from(
    source: nn.Module,
    stored: Mapping[str, Any],
    model: nn.Module,
    variables: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """`start_model` from a model in memory.

    Args:
      source, stored: the model to start from, and its variables.
      model, variables: what to start, and its initial variables.
      where: what messages call the source.

    Raises:
      WeightsError: naming what does not fit.
    """
    rule = rule_of(source, model, where)
    started = dict(variables)
    for kind, initial in variables.items():  # "params", of some models also "batch_stats"
        given = rule.renamed(_flat(stored[kind]), model)
        result, start = transfer(_flat(initial), given, rule.new, rule.surplus, where)
        log.info("%s", start_table(start, f"{where} ({type(source).__name__}, {kind})"))
        started[kind] = unflatten_dict({tuple(p.split("/")): x for p, x in result.items()})
    return started


def rule_of(source: nn.Module, model: nn.Module, where: str) -> Rule:
    """How a model starts from another, which needs no weights.

    Raises:
      WeightsError: if it cannot, naming the classes or the fields that differ.
    """
    rules = _rules.get(type(model), ())
    rule = next((rule for rule in rules if isinstance(source, rule.source)), None)
    if rule is None:
        known = " or ".join(rule.source.__name__ for rule in rules) or "nothing"
        raise WeightsError(
            f"{where} holds a {type(source).__name__}; a {type(model).__name__} starts from {known}"
        )
    pairs = [(name, name) if isinstance(name, str) else name for name in rule.same]
    differing = [
        f"{theirs}={getattr(source, theirs)!r} not {getattr(model, ours)!r}"
        for ours, theirs in pairs
        if getattr(source, theirs) != getattr(model, ours)
    ]
    if differing:
        raise WeightsError(
            f"the model in {where} has {', '.join(differing)}; set config.model to the same"
        )
    return rule


def starting_from(source: nn.Module) -> tuple[type[nn.Module], ...]:
    """The classes of models that may start from a model."""
    fits = lambda rules: any(isinstance(source, rule.source) for rule in rules)  # noqa: E731
    return tuple(kind for kind, rules in _rules.items() if fits(rules))


def has_rules(model: nn.Module) -> bool:
    """Whether it is registered what models of this class start from."""
    return type(model) in _rules


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
        elif found[-1:] == wanted[-1:] and _is_table(path, len(wanted)):
            result[path] = _resampled(path, jnp.asarray(given[path], value.dtype), wanted)
            tables.append(path)
        elif HEAD.match(path) and found[:-1] == wanted[:-1]:  # another number of classes
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


def _is_table(path: str, axes: int) -> bool:
    """Whether a parameter is a table over time and space; those over texts have two axes."""
    if path.endswith(POSITION_TABLE):
        return axes == 4
    return bool(_OFFSETS.match(path) or _TEMPORAL.match(path))


def _resampled(path: str, table: jnp.ndarray, wanted: tuple[int, ...]) -> jnp.ndarray:
    """A table over time, space or both on the grid of shape `wanted`."""
    if _OFFSETS.match(path):
        return resampled(table[None], (1, *wanted[:2]))[0]
    if _TEMPORAL.match(path):
        return resampled(table[:, None, None], (wanted[0], 1, 1))[:, 0, 0]
    return resampled(table, wanted[:3])
