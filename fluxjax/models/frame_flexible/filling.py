"""From a plain network to all branches, and from one branch to a plain network."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.models.frame_flexible.branches import ANY, branch_names, branch_of, is_flexible

# What reads the altered channels, by the parameter at hand.
_READERS = ("conv1", "a", "pos_embed")


def fill_branches(flat: Mapping[Any, Any], names: Sequence[str]) -> dict[tuple[str, ...], Any]:
    """Arrays of a plain network under the names of branches, each branch with the same.

    Args:
      flat: path, a tuple of names -> array, of a plain network; others pass unchanged.
      names: of the branches, see `branches.branch_names`.
    """
    filled = {}
    for path, value in flat.items():
        if ANY in path:
            for name in names:
                filled[tuple(name if part == ANY else part for part in path)] = value
        else:
            filled[path] = value
    return filled


def export_branch(
    model: nn.Module, variables: Mapping[str, Any], frames: int
) -> tuple[nn.Module, dict[str, Any]]:
    """One branch as a plain network, its weight alterations folded into the convolutions.

    Args:
      model: a Tsm, Tea, SlowFast or UniFormer with branches.
      variables: of that model.
      frames: the branch's frame number.

    Returns:
      The plain model and its variables; they compute what the branch does.

    Raises:
      ValueError: on a plain network, or a frame number without branch.
    """
    if not is_flexible(model.frames):
        raise ValueError(f"the {type(model).__name__} is plain already: frames={model.frames}")
    names = branch_names(model.frames)
    name = names[branch_of(model.frames, frames, frames)]
    flat = flatten_dict(dict(variables))
    kept, scales = {}, {}
    for path, value in flat.items():
        if path[-2:-1] == ("adapter",):
            if path[-1] == name:
                scales[path[:-2]] = value
        elif not set(path) & set(names):
            kept[path] = value
        elif name in path:
            kept[tuple(ANY if part == name else part for part in path)] = value
    for block, scale in scales.items():
        (reader,) = (r for r in _READERS if (*block, r, "kernel") in kept)
        path = (*block, reader, "kernel")
        kept[path] = _folded(kept[path], scale)
    return model.clone(frames=()), unflatten_dict(kept)


def _folded(kernel: Any, scale: Any) -> Any:
    """The kernel that does to x what `kernel` does to (1 + scale) * x.

    A depthwise one [t, h, w, 1, C] is read beside x itself, which is altered too: its centre takes
    that part.
    """
    if kernel.shape[-2] != 1 or kernel.shape[-1] != scale.shape[0] or kernel.ndim != 5:
        return kernel * (1 + scale)[:, None]
    centre = tuple(side // 2 for side in kernel.shape[:3])
    return jnp.asarray(kernel * (1 + scale)).at[(*centre, 0)].add(scale)
