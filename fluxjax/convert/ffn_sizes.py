"""Which of the frame flexible networks a state dict belongs to, and its sizes."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from fluxjax.convert.shapes import count, ratio_of
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.tea import Tea
from fluxjax.models.frame_flexible.tsm import Tsm
from fluxjax.models.frame_flexible.uniformer import UniFormer
from fluxjax.weight_files.errors import WeightsError


def network_of(state: Mapping[str, Any]) -> type[nn.Module]:
    """The class whose names these are.

    Raises:
      WeightsError: if they are none's.
    """
    names = {name.removeprefix("base_model.") for name in state}
    if "blocks1.0.pos_embed.weight" in names:
        return UniFormer
    if "s1.pathway0_stem.conv.weight" in names:
        return SlowFast
    if "layer1.0.convs.0.weight" in names:
        return Tea
    if names & {"layer1.0.conv1.weight", "layer1.0.conv1.net.weight"}:
        return Tsm
    raise WeightsError(
        "these are no weights of a TSM, TEA, SlowFast or UniFormer: no tensor is named like "
        "'layer1.0.conv1.weight', 'layer1.0.convs.0.weight', 's1.pathway0_stem.conv.weight' or "
        f"'blocks1.0.pos_embed.weight'. The first of {len(state)} names: {list(state)[:8]}"
    )


def sizes_of(kind: type[nn.Module], state: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that shapes tell.

    Raises:
      WeightsError: naming a tensor that is missing.
    """
    shapes = _Shapes(kind, {name: np.shape(value) for name, value in state.items()})
    if kind is UniFormer:
        return _uniformer(shapes)
    return _slowfast(shapes) if kind is SlowFast else _frame_network(kind, shapes)


class _Shapes(dict):
    """Name -> shape; a missing name is a WeightsError."""

    def __init__(self, kind: type[nn.Module], shapes: Mapping[str, tuple[int, ...]]):
        super().__init__(shapes)
        self.kind = kind

    def __missing__(self, name: str):
        raise WeightsError(f"these weights of a {self.kind.__name__} lack {name!r}")


def _frame_network(kind: type[nn.Module], shapes: _Shapes) -> dict[str, Any]:
    first = "base_model.layer{}.0.conv{}.weight"
    stages = range(1, 5)
    fields = {
        "layers": tuple(count(shapes, rf"base_model\.layer{i}\.(\d+)\.") for i in stages),
        "stem": shapes["base_model.conv1.weight"][0],
    }
    if kind is Tea:
        planes = (shapes[first.format(i, 3)][0] // 4 for i in stages)
    else:
        planes = (shapes[first.format(i, 1)][0] for i in stages)
        fields["bottleneck"] = first.format(1, 3) in shapes
    return fields | {"planes": tuple(planes)}


def _slowfast(shapes: _Shapes) -> dict[str, Any]:
    width = shapes["s1.pathway0_stem.conv.weight"][0]
    thin = shapes["s1.pathway1_stem.conv.weight"][0]
    fuse = shapes["s1_fuse.conv_f2s.weight"]
    return {
        "layers": tuple(count(shapes, rf"s{i}\.pathway0_res(\d+)\.") for i in range(2, 6)),
        "width": width,
        "beta_inv": width // thin,
        "fusion_ratio": fuse[0] // thin,
        "fusion_kernel": fuse[2],
    }


def _uniformer(shapes: _Shapes) -> dict[str, Any]:
    stages = range(1, 5)
    widths = tuple(shapes[f"patch_embed{i}.proj.weight"][0] for i in stages)
    return {
        "layers": tuple(count(shapes, rf"blocks{i}\.(\d+)\.") for i in stages),
        "widths": widths,
        "mlp_ratio": ratio_of(shapes["blocks1.0.mlp.fc1.weight"][0], widths[0]),
    }
