"""Starts a FluxViT from InternVideo2 weights, as the paper's pre-training does."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.convert import shapes, states
from fluxjax.convert.fluxvit import rows_of
from fluxjax.convert.mapping import as_float32
from fluxjax.models.fluxvit import FluxViT
from fluxjax.tokens.positions import resampled
from fluxjax.weight_files.errors import WeightsError


class InitReport(NamedTuple):
    """What `init_fluxvit_from_internvideo2` did."""

    loaded: dict[str, str]  # our parameter -> the InternVideo2 tensor it comes from
    kept: tuple[str, ...]  # our parameters that keep their initial values
    unused: tuple[str, ...]  # tensors without a counterpart


def init_fluxvit_from_internvideo2(
    variables: Mapping[str, Any],
    state_dict: Any,
    *,
    num_frames: int = 8,
) -> tuple[dict[str, Any], InitReport]:
    """Starts a FluxViT from an InternVideo2 of the same width and depth.

    The one pooling projector starts all of FluxViT's; so does the classification head, if it has
    as many classes. The position table is resampled to FluxViT's grid. The dual patch norms, LPE,
    GPE and the alignment decoders are FluxViT's own and keep their initial values.

    Args:
      variables: of a FluxViT, from `model.init`.
      state_dict: path or mapping, see `fluxjax.convert.states.state_of`.
      num_frames: frames of the checkpoint's position table; 8 in the released stage-1 and
        distilled models.

    Returns:
      New variables, and what was loaded, kept and not used.

    Raises:
      WeightsError: if the trunk is of another size, or the table's rows fit no square grid.
    """
    state = states.vision_part(states.state_of(state_dict))
    flat = {"/".join(path): v for path, v in flatten_dict(variables["params"]).items()}
    model = _model_of(flat)
    loaded, wrong = {}, []
    for row in rows_of(model):
        # InternVideo2 has one pooling projector and one head: their names have no number.
        name = re.sub(r"^(clip_projector|head)\.\d+\.", r"\1.", row.name)
        if name not in state:
            continue
        tensor = as_float32(state[name])
        if name == "pos_embed":
            tensor = _positions_on(tensor, num_frames, model)
        if tensor.shape == row.shape:
            for path, part in zip(row.paths, row.layout.split(tensor), strict=True):
                flat[path] = jnp.asarray(part)
                loaded[path] = name
        elif not name.startswith("head."):  # another label set: the heads stay new
            wrong.append(f"{name!r} is {tensor.shape}, expected {row.shape}")
    depth = shapes.count(state, r"blocks\.(\d+)\.")
    if depth != model.depth:
        wrong.append(f"{depth} blocks, expected {model.depth}")
    if wrong:
        raise WeightsError(
            f"the InternVideo2 weights do not fit this FluxViT (width {model.width}, depth "
            f"{model.depth}): {'; '.join(wrong[:10])}"
        )
    used = set(loaded.values())
    kept = tuple(path for path in flat if path not in loaded)
    unused = tuple(name for name in state if name not in used)
    params = unflatten_dict({tuple(path.split("/")): v for path, v in flat.items()})
    return {**variables, "params": params}, InitReport(loaded, kept, unused)


def _positions_on(tensor: np.ndarray, num_frames: int, model: FluxViT) -> np.ndarray:
    """Positions [1, 1+rows, C] of the checkpoint's grid -> of the model's grid, same layout."""
    width = tensor.shape[-1]
    side = math.isqrt((tensor.shape[1] - 1) // num_frames)
    if num_frames * side**2 != tensor.shape[1] - 1:
        raise WeightsError(
            f"pos_embed has {tensor.shape[1] - 1} rows, not {num_frames} frames of a square grid; "
            "pass num_frames= of the checkpoint"
        )
    table = tensor[0, 1:].reshape(num_frames, side, side, width)
    table = np.asarray(resampled(table, model.grid)).reshape(-1, width)
    return np.concatenate([tensor[0, :1], table])[None]


def _model_of(flat: Mapping[str, Any]) -> FluxViT:
    """A FluxViT with the sizes of flattened parameters, for its table of names and shapes."""
    table = flat["position_table"]
    heads = shapes.count(flat, r"poolers_(\d+)/")
    pooled, num_classes = flat["heads_0/kernel"].shape
    hidden = flat["blocks_0/mlp/fc1/kernel"].shape[1]
    return FluxViT(
        num_classes=num_classes,
        width=table.shape[-1],
        depth=shapes.count(flat, r"blocks_(\d+)/"),
        mlp_ratio=shapes.ratio_of(hidden, table.shape[-1]),
        grid=tuple(table.shape[:3]),
        pooled=pooled,
        budgets=tuple(range(heads, 0, -1)),  # only their number matters here
        patch=math.isqrt(flat["patch_embed/proj/kernel"].shape[0] // 3),
        layer_scale=1e-5 if "blocks_0/ls1/gamma" in flat else None,
    )
