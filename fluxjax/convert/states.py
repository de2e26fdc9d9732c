"""State dicts: where they come from, what their shapes tell, and what is left to be told."""

import collections
import dataclasses
import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert.mapping import Row, as_float32
from fluxjax.tokens.positions import resampled
from fluxjax.weight_files.readers import WeightsError, find_state_dict, read_weights

# Wrappers that leave their name in front: DeepSpeed and DDP, the official loaders, torch.compile.
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")

# Heads of the released widths; FluxViT S and B, InternVideo2 S, B, L, 1B and 6B.
_RELEASED_HEADS = {384: 6, 768: 12, 1024: 16, 1408: 16, 3200: 25}
RELEASED_POOL_HEADS = 16


def state_of(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The named arrays of a weight file or of a mapping, without wrappers and prefixes.

    Args:
      weights: a path (see `weight_files.readers.read_weights`), or a mapping of names to numpy,
        JAX or torch arrays, which may be wrapped like a training checkpoint ("module", ..).

    Raises:
      WeightsError: if there are no weights.
    """
    if isinstance(weights, Mapping):
        return strip_prefixes(find_state_dict(_numpy_tree(weights)))
    return strip_prefixes(read_weights(weights))


def _numpy_tree(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numpy_tree(inner) for name, inner in value.items()}
    if hasattr(value, "detach"):  # a torch tensor; numpy knows no torch.bfloat16
        value = value.detach().cpu()
        return value.float().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value) if isinstance(value, jax.Array) else value


def strip_prefixes(state: Mapping[str, Any], prefixes: Sequence[str] = PREFIXES) -> dict[str, Any]:
    """Removes wrappers' prefixes, repeated ones too, from every name.

    Raises:
      WeightsError: if two names become the same.
    """
    stripped = {}
    for name, value in state.items():
        short = name
        while prefix := next((p for p in prefixes if short.startswith(p)), None):
            short = short[len(prefix) :]
        if short in stripped:
            raise WeightsError(
                f"{name!r} and another tensor are both {short!r} without prefixes; "
                "pass only one model's tensors"
            )
        stripped[short] = value
    return stripped


def infer(state: Mapping[str, Any], what: str, *sources: tuple[str, int]) -> int:
    """The size that most tensors agree on.

    Args:
      state: torch name -> array.
      what: the model, for the error message.
      *sources: (regular expression of whole names, axis of the size in these tensors).

    Raises:
      WeightsError: if no tensor has such a name.
    """
    votes = collections.Counter()
    for name, value in state.items():
        shape = np.shape(value)
        for pattern, axis in sources:
            if re.fullmatch(pattern, name) and -len(shape) <= axis < len(shape):
                votes[shape[axis]] += 1
    if not votes:
        wanted = ", ".join(repr(pattern) for pattern, _ in sources)
        raise WeightsError(
            f"these are no weights of {what}: no tensor is named like {wanted}. "
            f"The first of {len(state)} names: {list(state)[:8]}"
        )
    return votes.most_common(1)[0][0]


def count(state: Mapping[str, Any], pattern: str) -> int:
    """One more than the largest number that the pattern's group captures; 0 if none does."""
    matches = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def ratio_of(hidden: int, width: int) -> float:
    """An mlp_ratio for which int(width * ratio) is exactly `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def heads_of(width: int, num_heads: int | None) -> int:
    """`num_heads`, by default the released model's of that width, or heads of 64 channels.

    Raises:
      ValueError: if the width is no multiple of the heads.
    """
    if num_heads is None:
        num_heads = _RELEASED_HEADS.get(width, width // 64 if width % 64 == 0 else 0)
    return checked_heads("num_heads", width, num_heads)


def pool_heads_of(width: int, pool_num_heads: int | None) -> int:
    """`pool_num_heads`, by default the 16 of every released model.

    Raises:
      ValueError: if the width is no multiple of the heads.
    """
    heads = RELEASED_POOL_HEADS if pool_num_heads is None else pool_num_heads
    return checked_heads("pool_num_heads", width, heads)


def checked_heads(keyword: str, width: int, heads: int) -> int:
    """`heads`, or a ValueError that names the keyword if they do not divide the width."""
    if heads < 1 or width % heads:
        told = f"{heads} heads do not divide" if heads else "shapes do not tell the heads of"
        raise ValueError(f"{told} width {width}; pass {keyword}=, as the model was trained with")
    return heads


def grid_of(
    rows: int,
    patch: int,
    num_frames: int | None,
    image_size: int | tuple[int, int] | None,
    released: Mapping[int, tuple[int, int, int]],
) -> tuple[int, int, int]:
    """The grid (T, H, W) of a position table with `rows` rows, not counting cls.

    Args:
      rows: T * H * W.
      patch: pixels a side of a patch.
      num_frames: T of the checkpoint, if known.
      image_size: pixels a side, or (height, width), of the checkpoint, if known.
      released: grids taken for that many rows where neither keyword is given.

    Raises:
      ValueError: if the keywords are missing or do not give that many rows.
    """
    if num_frames is None and image_size is None:
        if rows in released:
            return released[rows]
        options = [f"{t}x{g * patch}" for t, g in _square_grids(rows)]
        raise ValueError(
            f"a position table of {rows} rows may belong to several grids: frames x pixels "
            f"{', '.join(options)}; pass num_frames= or image_size= of the checkpoint"
        )
    if image_size is not None:
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        height, width = height // patch, width // patch
        grid = (num_frames or rows // max(height * width, 1), height, width)
    else:
        side = math.isqrt(rows // num_frames)
        grid = (num_frames, side, side)
    if math.prod(grid) != rows:
        raise ValueError(
            f"num_frames={num_frames}, image_size={image_size} give a grid {grid} of "
            f"{math.prod(grid)} patches of {patch} pixels, the position table has {rows} rows; "
            "pass the values of the checkpoint, not of the clips"
        )
    return grid


def _square_grids(rows: int) -> list[tuple[int, int]]:
    sides = range(1, math.isqrt(rows) + 1)
    return [(rows // side**2, side) for side in sides if rows % side**2 == 0]


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


def check_fields(
    load: Callable[..., Any], model_class: type, fields: Mapping[str, Any], inferred: Sequence[str]
) -> None:
    """Raises ValueError unless `fields` are of the model and not told by the shapes."""
    own = {f.name for f in dataclasses.fields(model_class)} - {"parent", "name", *inferred}
    keywords = inspect.signature(load).parameters.values()
    known = own | {p.name for p in keywords if p.kind is p.KEYWORD_ONLY}
    for field in fields:
        if field in inferred:
            raise ValueError(f"{field!r} follows from the weights and the keywords {sorted(known)}")
        if field not in own:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no option {field!r}{hint} (options: {sorted(known)})")


def on_grid(
    model: Any, variables: Mapping[str, Any], grid: tuple[int, int, int] | None
) -> tuple[Any, dict[str, Any]]:
    """The model with its position tables resampled to a grid (T, H, W); None changes nothing."""
    if grid is None or tuple(grid) == tuple(model.grid):
        return model, variables
    params = dict(variables["params"])
    if "position_table" in params:
        params["position_table"] = resampled(params["position_table"], grid)
    else:  # separate tables: a sum of tables is resampled as the sum of both
        spatial, temporal = params["spatial_table"], params["temporal_table"]
        params["spatial_table"] = resampled(spatial[None], (1, *grid[1:]))[0]
        params["temporal_table"] = resampled(temporal[:, None, None], (grid[0], 1, 1))[:, 0, 0]
    return model.clone(grid=tuple(grid)), {**variables, "params": params}
