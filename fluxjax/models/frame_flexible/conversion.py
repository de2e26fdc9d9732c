"""One branch as a plain network, and a plain network as all branches."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.models.frame_flexible.branches import BRANCHED, nearest_branch


def export_branch(
    model: nn.Module, variables: Mapping[str, Any], frames: int
) -> tuple[nn.Module, dict[str, Any]]:
    """The plain network that clips of `frames` frames take, adapters folded into other weights.

    Its logits are those of `model` up to rounding, in less time.

    Args:
      model: a frame flexible network; `model.fold_adapter(block, adapter)` gives a block's
        parameters without its adapter.
      variables: of it.
      frames: any number; the branch is the nearest, as when `model` is called.

    Returns:
      The network of one branch, and its variables.

    Raises:
      ValueError: on a model that is no frame flexible network.
    """
    if not hasattr(model, "fold_adapter"):
        raise ValueError(
            f"a {type(model).__name__} has no branches; networks such as tsm_r50_ffn have"
        )
    branch = nearest_branch(frames, model.frames)

    def only(name: str) -> str | None:
        match = BRANCHED.fullmatch(name)
        if match is None:
            return name
        return f"{match['name']}_0" if int(match["branch"]) == branch else None

    kept = {kind: _renamed(tree, only) for kind, tree in variables.items()}
    kept["params"] = _folded(kept["params"], model)
    return model.clone(frames=(model.frames[branch],)), kept


def _renamed(tree: Mapping[str, Any], rename: Callable[[str], str | None]) -> dict[str, Any]:
    """The tree with every name replaced; without what becomes None."""
    flat = {tuple(map(rename, path)): value for path, value in flatten_dict(tree).items()}
    return unflatten_dict({path: value for path, value in flat.items() if None not in path})


def _folded(tree: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The parameters with the adapter of every block folded, see `fold_adapter` of the model."""
    tree = {k: _folded(v, model) if isinstance(v, Mapping) else v for k, v in tree.items()}
    adapter = tree.pop("adaconv_0", None)
    return tree if adapter is None else model.fold_adapter(tree, adapter["kernel"])


def spread_branches(
    variables: Mapping[str, Any],
    branches: int,
    adapted: Mapping[str, int],
    rng: np.random.Generator,
    std: float | None = None,
) -> dict[str, Any]:
    """Variables of a plain network as those of `branches`: norms copied, adapters drawn.

    Args:
      variables: of the plain network.
      branches: how many there shall be.
      adapted: name of each block with an adapter -> its channels C; none: no adapters.
      rng: draws the adapters.
      std: their standard deviation; None: sqrt(2 / C).
    """
    copies = {}
    for kind, tree in variables.items():
        flat = {}
        for path, value in flatten_dict(tree).items():
            for i in range(branches):
                flat[tuple(BRANCHED.sub(rf"\g<name>_{i}", name) for name in path)] = value
        copies[kind] = unflatten_dict(flat)
    for block, width in adapted.items():
        scale = (2 / width) ** 0.5 if std is None else std
        for i in range(branches):
            kernel = np.float32(scale) * rng.standard_normal(width, np.float32)
            copies["params"][block][f"adaconv_{i}"] = {"kernel": kernel}
    return copies
