"""CLIP weights <-> `ClipImage`: OpenAI's, open_clip's and Hugging Face's names.

Sources: names and shapes of openai/CLIP (TorchScript archives), mlfoundations/open_clip and
transformers' CLIPModel and CLIPVisionModelWithProjection. The image encoder is read; the text
encoder's tensors are left out.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert import states
from fluxjax.convert.mapping import (
    Layout,
    Row,
    as_float32,
    cls_and_table,
    dense,
    layer_norm,
    patch_matrix,
    to_variables,
    vector,
)
from fluxjax.models.clip_image import ClipImage
from fluxjax.tokens.positions import resampled
from fluxjax.weight_files.errors import WeightsError

VISUAL = "visual."
_HF = "vision_model."
# The text encoder, the temperature, and the sizes that OpenAI's archives keep beside the weights.
_NOT_VISUAL = re.compile(
    r"(transformer|token_embedding|ln_final|text|text_model|text_projection|attn_mask)(\.|$)|"
    r"(positional_embedding|logit_scale|logit_bias|input_resolution|context_length|vocab_size)$|"
    r".*position_ids$"
)
_INFERRED = (
    "width", "depth", "mlp_ratio", "patch", "ln_pre", "patch_bias", "embedding", "num_classes",
)  # fmt: skip
# Hugging Face's names, after "vision_model.", as regular expressions.
_HF_NAMES = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding\.", "conv1."),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"pre_layrnorm\.", "ln_pre."),
    (r"post_layernorm\.", "ln_post."),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.", r"transformer.resblocks.\1.ln_\2."),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"transformer.resblocks.\1.attn.out_proj."),
)


def load(
    state: Mapping[str, np.ndarray],
    *,
    num_heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
    gelu: str = "quick",
    **fields: Any,
) -> tuple[ClipImage, dict[str, Any]]:
    """Builds the image encoder that a CLIP state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      num_heads: of the transformer; default: width / 64, as in every released model.
      image_size: pixels a side, or (height, width), of the checkpoint; default: square.
      grid: resample the position table to this (H, W) in patches; default: as stored. The model
        runs on any image size in either case.
      gelu: "quick" (OpenAI's weights, open_clip's "-quickgelu") or "exact" (open_clip's others).
      **fields: other fields of `ClipImage`, such as dtype or train_tower.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    states.check_fields(load, ClipImage, fields, _INFERRED)
    state = visual_state(state)
    width = states.infer(state, "a CLIP", ("class_embedding", 0), (r"ln_(pre|post)\.weight", 0))
    shape = np.shape(state.get("conv1.weight", ()))
    patch = shape[-1] if len(shape) == 4 else ClipImage.patch
    block = r"transformer\.resblocks\.\d+\.mlp\.c_fc\.(weight|bias)"
    hidden = states.infer(state, "a CLIP", (block, 0))
    rows = np.shape(state.get("positional_embedding", (0, 0)))[0] - 1
    model = ClipImage(
        num_classes=None,
        embedding=np.shape(state["proj"])[-1] if "proj" in state else ClipImage.embedding,
        width=width,
        depth=states.count(state, r"transformer\.resblocks\.(\d+)\."),
        num_heads=states.checked_heads("num_heads", width, heads_of(width, num_heads)),
        mlp_ratio=hidden / width,
        grid=stored_grid(rows, patch, image_size),
        patch=patch,
        ln_pre=any(name.startswith("ln_pre.") for name in state),
        patch_bias="conv1.bias" in state,
        gelu=gelu,
        **fields,
    )
    table = [row.without(VISUAL) for row in rows_of(model)]
    variables = to_variables(state, table, f"a CLIP image encoder of width {width}")
    return on_grid(model, variables, grid)


def heads_of(width: int, num_heads: int | None) -> int:
    """`num_heads`, by default heads of 64 channels; 0 if these do not divide the width."""
    if num_heads is not None:
        return num_heads
    return width // 64 if width % 64 == 0 else 0


def stored_grid(rows: int, patch: int, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """The (H, W) of a position table with `rows` rows besides cls's.

    Raises:
      ValueError: if `image_size` is needed or does not fit.
    """
    if image_size is None:
        side = math.isqrt(max(rows, 1))
        grid = (side, side)
    else:
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        grid = (height // patch, width // patch)
    if rows > 0 and math.prod(grid) != rows:
        raise ValueError(
            f"a position table of {rows} rows is no grid of {grid[0]} x {grid[1]} patches of "
            f"{patch} pixels; pass image_size= of the checkpoint, not of the clips"
        )
    return grid


def on_grid(
    model: Any, variables: dict[str, Any], grid: tuple[int, int] | None
) -> tuple[Any, dict[str, Any]]:
    """The model with its tower's position table resampled to a grid (H, W); None: as it is."""
    if grid is None or tuple(grid) == model.grid:
        return model, variables
    tower = dict(variables["params"]["tower"])
    tower["position_table"] = resampled(tower["position_table"], (1, *grid))
    return model.clone(grid=tuple(grid)), {"params": {**variables["params"], "tower": tower}}


def visual_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The image encoder's tensors under OpenAI's names, without "visual."; of whole models too.

    Raises:
      WeightsError: on a name that belongs to no encoder.
    """
    if any(name.startswith(_HF) for name in state):
        state = _from_hugging_face(state)
    if any(name.startswith(VISUAL) for name in state):
        others = [name for name in state if not name.startswith(VISUAL)]
        unknown = [name for name in others if not _NOT_VISUAL.match(name)]
        if unknown:
            raise WeightsError(
                f"{len(unknown)} tensors belong to neither encoder of a CLIP: {unknown[:10]}"
            )
        state = {n.removeprefix(VISUAL): v for n, v in state.items() if n.startswith(VISUAL)}
    return dict(state)


def _from_hugging_face(state: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' names -> OpenAI's; split projections are joined."""
    renamed, parts = {}, {}
    for name, value in state.items():
        if name == "visual_projection.weight":
            renamed[VISUAL + "proj"] = np.asarray(value).T
            continue
        if not name.startswith(_HF) or name.endswith("position_ids"):
            if not name.startswith(_HF):
                renamed[name] = value  # the text encoder's, and what is wrong
            continue
        short = name.removeprefix(_HF)
        split = re.fullmatch(
            r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", short
        )
        if split:
            whole = f"{VISUAL}transformer.resblocks.{split[1]}.attn.in_proj_{split[3]}"
            parts.setdefault(whole, {})[split[2]] = value
            continue
        for pattern, ours in _HF_NAMES:
            short = re.sub("^" + pattern, ours, short)
        renamed[VISUAL + short] = value
    for whole, split in parts.items():
        if len(split) == 3:  # else reported as missing
            renamed[whole] = np.concatenate([as_float32(split[part]) for part in "qkv"])
    return renamed


_IN_WEIGHT = Layout(
    lambda x: tuple(part.T for part in np.split(x, 3)),
    lambda arrays, shape: np.concatenate([array.T for array in arrays]),
)
_IN_BIAS = Layout(
    lambda x: tuple(np.split(x, 3)), lambda arrays, shape: np.concatenate(list(arrays))
)


def rows_of(model: ClipImage) -> list[Row]:
    """The table of the image encoder's part of OpenAI's state dict."""
    width, patch = model.width, model.patch
    hidden = round(width * model.mlp_ratio)
    if model.num_classes is not None:
        raise ValueError("a CLIP classifier has no official names; only num_classes=None has")
    positions = (1 + math.prod(model.grid), width)
    weight = Row(
        "conv1.weight", (width, 3, patch, patch), ("tower/patch_embed/kernel",), patch_matrix(patch)
    )
    table = cls_and_table((1, *model.grid), stacked=False)
    rows = [
        vector("class_embedding", "tower/cls_token", width),
        Row("positional_embedding", positions,
            ("tower/cls_position", "tower/position_table"), table),
        weight,
    ]  # fmt: skip
    if model.patch_bias:
        rows.append(vector("conv1.bias", "tower/patch_embed/bias", width))
    if model.ln_pre:
        rows += layer_norm("ln_pre", "tower/norm_pre", width)
    for i in range(model.depth):
        name, path = f"transformer.resblocks.{i}", f"tower/blocks_{i}"
        paths = [f"{path}/attn/{part}" for part in "qkv"]
        kernels, biases = (tuple(f"{p}/{leaf}" for p in paths) for leaf in ("kernel", "bias"))
        rows += [
            *layer_norm(f"{name}.ln_1", f"{path}/norm1", width),
            Row(f"{name}.attn.in_proj_weight", (3 * width, width), kernels, _IN_WEIGHT),
            Row(f"{name}.attn.in_proj_bias", (3 * width,), biases, _IN_BIAS),
            *dense(f"{name}.attn.out_proj", f"{path}/attn/out", width, width),
            *layer_norm(f"{name}.ln_2", f"{path}/norm2", width),
            *dense(f"{name}.mlp.c_fc", f"{path}/mlp/fc1", width, hidden),
            *dense(f"{name}.mlp.c_proj", f"{path}/mlp/fc2", hidden, width),
        ]
    rows += layer_norm("ln_post", "ln_post", width)
    rows.append(Row("proj", (width, model.embedding), ("proj/kernel",)))
    return [row.within(VISUAL) for row in rows]
