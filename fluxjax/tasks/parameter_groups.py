"""How the optimizer treats each parameter: weight decay, and factors on the learning rate."""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.traverse_util
from ml_collections import ConfigDict

from fluxjax.tasks.base import ParamGroup

_HEAD = re.compile(r"head(s_\d+)?")


def layer_decay(model: nn.Module, params: Any, optim: ConfigDict) -> Any:
    """A tree like `params` of `ParamGroup`.

    As in FluxViT's optimizer, vectors and position tables are not decayed, with one deviation: the
    reference decays the scales of LPE and GPE towards 0, since they are stored as 5-D convolution
    kernels; `optim.decay_affine` keeps that for its recipe. `optim.decay_all` decays everything,
    as EVL does.

    Args:
      model: says of itself `depth`, `layer_id(path)`, `frozen(path)`, and may have `bounds(path)`,
        and `undecayed(path)` for further tables without weight decay.
      params: of the model, nested dict.
      optim: `config.optim`.
    """

    bounds = getattr(model, "bounds", lambda path: None)
    undecayed = getattr(model, "undecayed", lambda path: False)

    def group(path: tuple[str, ...], value: Any) -> ParamGroup:
        affine = path[-1] == "scale" and path[-2] in ("lpe", "gpe")
        no_decay = value.ndim <= 1 or path[-1] == "position_table" or undecayed(path)
        decay = optim.decay_all or (optim.decay_affine if affine else not no_decay)
        rate = _rate(model, path, optim)
        return ParamGroup(model.frozen(path), decay, lr_scale=rate, bounds=bounds(path))

    return _each(group, params)


def network_groups(model: nn.Module, params: Any, optim: ConfigDict) -> Any:
    """A tree like `params` of `ParamGroup`, of a convolutional network.

    Scales and biases are not decayed, every other parameter is, vectors such as FFN's adapters too;
    a model's `undecayed(path)` says it in another way, and `optim.decay_all` decays everything.
    Factors are as of `layer_decay`.
    """
    undecayed = getattr(model, "undecayed", lambda path: path[-1] in ("scale", "bias"))

    def group(path: tuple[str, ...], value: Any) -> ParamGroup:
        decay = optim.decay_all or not undecayed(path)
        return ParamGroup(model.frozen(path), decay, lr_scale=_rate(model, path, optim))

    return _each(group, params)


def _rate(model: nn.Module, path: tuple[str, ...], optim: ConfigDict) -> float:
    """Factor on the learning rate: of the parameter's layer, and of classifiers."""
    return optim.layer_decay ** (model.depth + 1 - model.layer_id(path)) * _head_scale(path, optim)


def _head_scale(path: tuple[str, ...], optim: ConfigDict) -> float:
    """The classifier's factor on the learning rate; 1 elsewhere."""
    if not _HEAD.fullmatch(path[0]):
        return 1.0
    return optim.head_bias_lr_scale if path[-1] == "bias" else optim.head_lr_scale


def _each(group: Callable[[tuple[str, ...], Any], ParamGroup], params: Any) -> Any:
    flat = flax.traverse_util.flatten_dict(params)
    return flax.traverse_util.unflatten_dict({p: group(p, v) for p, v in flat.items()})
