"""Classification heads of another label set: cut, mapped, or drawn anew."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert.mapping import Row, as_float32


def map_classes(
    state: Mapping[str, Any],
    head_names: Sequence[str],
    num_classes: int | None,
    label_map: Sequence[int] | None,
) -> tuple[dict[str, Any], int]:
    """Takes the rows of classification heads that belong to a smaller label set.

    The 710 classes of Kinetics-710 begin with the 400 of Kinetics-400; for other sets `label_map`
    gives the row of each class (official files label_mixto600.json, label_mixto700.json).

    Args:
      state: torch name -> array.
      head_names: tensors with one row a class; those absent from the state are ignored.
      num_classes: wanted; None keeps the checkpoint's, or takes `label_map`'s length.
      label_map: row of the checkpoint for each wanted class.

    Returns:
      The state with these tensors cut, and the number of classes.

    Raises:
      ValueError: if there is no rule, or `label_map` does not fit.
    """
    state = dict(state)
    names = [name for name in head_names if name in state]
    rows = collections.Counter(np.shape(state[name])[0] for name in names)
    stored = rows.most_common(1)[0][0]
    if label_map is None:
        if num_classes in (None, stored):
            return state, stored
        if (stored, num_classes) != (710, 400):
            raise ValueError(
                f"the checkpoint has {stored} classes, not {num_classes}, and no rule is known "
                "for that; pass label_map= (a row for each class), or head_key=jax.random.key(..) "
                "to start from new heads"
            )
        label_map = range(400)
    index = np.asarray(label_map, np.int64)
    if num_classes not in (None, len(index)):
        raise ValueError(f"label_map has {len(index)} classes, num_classes is {num_classes}")
    if index.size == 0 or index.min() < 0 or index.max() >= stored:
        raise ValueError(f"label_map must hold rows 0 to {stored - 1} of the checkpoint's heads")
    for name in names:
        if np.shape(state[name])[0] == stored:  # others are reported as misshaped
            state[name] = as_float32(state[name])[index]
    return state, len(index)


def heads_for(
    state: Mapping[str, Any],
    head_names: Sequence[str],
    num_classes: int | None,
    label_map: Sequence[int] | None,
    head_key: jax.Array | None,
) -> tuple[dict[str, Any], int]:
    """Heads as stored, cut to another label set (`map_classes`), or left out to be drawn anew.

    Returns:
      The state to convert and the number of classes.

    Raises:
      ValueError: if the checkpoint has no heads and none are asked for, or no rule maps them.
    """
    if head_key is None:
        if not any(name in state for name in head_names):
            if any(name.startswith("head.") for name in state):
                return dict(state), num_classes or 400  # misnamed: reported with all other names
            raise ValueError(
                "the checkpoint has no classification heads (it is pre-trained only); pass "
                "num_classes= and head_key=jax.random.key(..) to start from new ones"
            )
        return map_classes(state, head_names, num_classes, label_map)
    if num_classes is None or label_map is not None:
        raise ValueError("head_key= draws new heads: pass num_classes= with it, and no label_map=")
    return {name: v for name, v in state.items() if name not in head_names}, num_classes


def new_parameters(rows: Sequence[Row], key: jax.Array, std: float) -> dict[str, np.ndarray]:
    """Draws what a checkpoint does not give: normal kernels, zero biases, unit scales."""
    # On the host: nothing is compiled for a few small matrices.
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    drawn = {}
    for row in rows:
        (path,) = row.paths
        if path.endswith("/kernel"):
            drawn[path] = np.float32(std) * generator.standard_normal(row.shape[::-1], np.float32)
        else:
            drawn[path] = np.full(row.shape, path.endswith("/scale"), np.float32)
    return drawn
