"""How the optimizer treats each parameter of a transformer: layer decay and weight decay."""

from typing import Any

import flax.linen as nn
import flax.traverse_util
from ml_collections import ConfigDict

from fluxjax.tasks.base import ParamGroup

_TABLES = ("position_table", "spatial_table", "temporal_table")


def layer_decay(model: nn.Module, params: Any, optim: ConfigDict) -> Any:
    """A tree like `params` of `ParamGroup`.

    As in FluxViT's optimizer, vectors and position tables are not decayed, with one deviation: the
    reference decays the scales of LPE and GPE towards 0, since they are stored as 5-D convolution
    kernels; `optim.decay_affine` keeps that for its recipe. `optim.decay_all` decays everything,
    as EVL does.

    Args:
      model: says of itself `depth`, `layer_id(path)` and `frozen(path)`.
      params: of the model, nested dict.
      optim: `config.optim`.
    """

    def group(path: tuple[str, ...], value: Any) -> ParamGroup:
        affine = path[-1] == "scale" and path[-2] in ("lpe", "gpe")
        no_decay = value.ndim <= 1 or path[-1] in _TABLES
        decay = optim.decay_all or (optim.decay_affine if affine else not no_decay)
        exponent = model.depth + 1 - model.layer_id(path)
        return ParamGroup(model.frozen(path), decay, lr_scale=optim.layer_decay**exponent)

    flat = flax.traverse_util.flatten_dict(params)
    return flax.traverse_util.unflatten_dict({p: group(p, v) for p, v in flat.items()})
