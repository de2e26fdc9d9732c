"""CLIP weights <-> `ClipImage`: OpenAI's, open_clip's and Hugging Face's names.

Sources: names and shapes of openai/CLIP (TorchScript archives), mlfoundations/open_clip and
transformers' CLIPModel and CLIPVisionModelWithProjection. The image encoder is read; the text
encoder's tensors are left out.
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert import shapes
from fluxjax.convert.clip_configs import told_of
from fluxjax.convert.clip_names import VISUAL, visual_state
from fluxjax.convert.clip_rows import rows_of
from fluxjax.convert.mapping import to_variables
from fluxjax.convert.states import vision_part
from fluxjax.convert.untold import Untold, check_fields, checked_gelu, checked_heads
from fluxjax.models.clip_image import ClipImage
from fluxjax.tokens.positions import resampled
from fluxjax.tokens.tokens import CLIP_PIXELS

_INFERRED = (
    "width", "depth", "mlp_ratio", "patch", "ln_pre", "patch_bias", "embedding", "num_classes",
)  # fmt: skip
# (width, depth) -> heads: OpenAI's ViTs and open_clip's S, M, B, B-plus, L, H, g, bigG and e; the
# first is our own "ti". From H on heads have 80, 88, 104 and 112 channels.
RELEASED_HEADS = {
    (64, 4): 4,
    (384, 12): 6,
    (512, 12): 8,
    (768, 12): 12,
    (896, 12): 14,
    (1024, 24): 16,
    (1280, 32): 16,
    (1408, 40): 16,
    (1664, 48): 16,
    (1792, 56): 16,
}
_EPSILON = 1e-5
_QUICK = "OpenAI's weights and open_clip's -quickgelu have quick, open_clip's others exact"
_LAION_WIDTH = 1024  # of the one release with other pixel statistics than CLIP's
_LAION_PIXELS = "open_clip's ViT-L-14 of LAION-2B has mean and std of 0.5"
_NAMES_OF_OUTPUT = re.compile(r"ln_post\.|proj$")


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
    gelu: str | None = None,
    **fields: Any,
) -> tuple[ClipImage, dict[str, Any]]:
    """Builds the image encoder that a CLIP state dict belongs to, and its variables.

    What shapes do not tell is taken from the keywords, then from what lies beside the weights (see
    `clip_configs`), then from the released model of this size. The log says which; it warns of what
    is assumed. Weights without projection (a CLIPVisionModel) give a model without.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file or folder that it comes from.
      num_heads: of the transformer.
      image_size: pixels a side, or (height, width), of the checkpoint; default: square.
      grid: resample the position table to this (H, W) in patches; default: as stored. The model
        runs on any image size in either case.
      gelu: "quick" (OpenAI's weights, open_clip's "-quickgelu"), "exact" (open_clip's others) or
        "tanh"; assumed to be quick where nothing tells it.
      **fields: other fields of `ClipImage`, such as dtype, pixels or train_tower.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    check_fields(load, ClipImage, fields, _INFERRED)
    model, state, untold = _described(state, source, num_heads, image_size, gelu, fields)
    _check_pooling(model, untold)
    if model.embedding is None:
        untold.known("embedding", None, "no projection: the output is the normed cls token")
    table = [row.without(VISUAL) for row in rows_of(model)]
    variables = to_variables(state, table, untold.what)
    untold.say()
    return on_grid(model, variables, grid)


def load_tower(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    gelu: str | None = None,
    pixels: Any = None,
) -> tuple[ClipImage, dict[str, Any]]:
    """The image tower alone, as EVL uses it: neither final norm nor projection are needed.

    Args: see `load`.

    Returns:
      A model whose fields describe the tower, and the tower's parameters.

    Raises:
      WeightsError, ValueError: as `load`.
    """
    fields = {} if pixels is None else {"pixels": pixels}
    model, state, untold = _described(
        state, source, num_heads, image_size, gelu, fields, gelu_keyword="tower_gelu"
    )
    state = {n: value for n, value in state.items() if not _NAMES_OF_OUTPUT.match(n)}
    table = [row.without(VISUAL) for row in rows_of(model) if row.paths[0].startswith("tower/")]
    variables = to_variables(state, table, untold.what)
    untold.say()
    return model, variables["params"]["tower"]


def _described(
    state: Mapping[str, Any],
    source: str | os.PathLike | None,
    num_heads: int | None,
    image_size: Any,
    gelu: str | None,
    fields: Mapping[str, Any],
    gelu_keyword: str = "gelu",
) -> tuple[ClipImage, dict[str, Any], Untold]:
    """The model that a state dict belongs to, its tensors under OpenAI's names, and the log."""
    whole = vision_part(state)
    state = visual_state(whole)
    width = shapes.infer(state, "a CLIP", ("class_embedding", 0), (r"ln_(pre|post)\.weight", 0))
    shape = np.shape(state.get("conv1.weight", ()))
    patch = shape[-1] if len(shape) == 4 else ClipImage.patch
    block = r"transformer\.resblocks\.\d+\.mlp\.c_fc\.(weight|bias)"
    hidden = shapes.infer(state, "a CLIP", (block, 0))
    depth = shapes.count(state, r"transformer\.resblocks\.(\d+)\.")
    told = told_of(whole, source, width, depth)
    untold = Untold(f"a CLIP image encoder of width {width}", told, source)
    num_heads = untold.choose("num_heads", num_heads, released=RELEASED_HEADS.get((width, depth)))
    gelu = untold.choose("gelu", gelu, assumed="quick", why=_QUICK, keyword=gelu_keyword)
    epsilon = untold.choose("epsilon", None, released=_EPSILON)
    if epsilon != _EPSILON:
        raise ValueError(
            f"{told['epsilon'].source} has LayerNorms of epsilon {epsilon}; only {_EPSILON} is run"
        )
    released = None if width == _LAION_WIDTH else CLIP_PIXELS
    pixels = untold.choose(
        "pixels", fields.get("pixels"), released=released, assumed=CLIP_PIXELS, why=_LAION_PIXELS
    )
    rows = np.shape(state.get("positional_embedding", (0, 0)))[0] - 1
    model = ClipImage(
        num_classes=None,
        embedding=np.shape(state["proj"])[-1] if "proj" in state else None,
        width=width,
        depth=depth,
        num_heads=checked_heads("num_heads", width, num_heads),
        mlp_ratio=hidden / width,
        grid=_stored_grid(rows, patch, image_size, untold),
        patch=patch,
        ln_pre=any(name.startswith("ln_pre.") for name in state),
        patch_bias="conv1.bias" in state,
        gelu=checked_gelu(gelu_keyword, gelu),
        **{**fields, "pixels": pixels},
    )
    return model, state, untold


def _stored_grid(rows: int, patch: int, image_size: Any, untold: Untold) -> tuple[int, int]:
    """By `image_size`, by what is told of it if that fits, or square."""
    told = untold.told.get("image_size")
    if image_size is None and told is not None:
        sides = (told.value,) * 2 if isinstance(told.value, int) else told.value
        if math.prod(side // patch for side in sides) == rows:  # else it was resampled
            image_size = untold.known("image_size", told.value, told.source)
    return shapes.square_grid_of(rows, patch, image_size, untold)


def _check_pooling(model: ClipImage, untold: Untold) -> None:
    """Raises ValueError if frames are pooled otherwise than by their cls token."""
    pooling = untold.told.get("pooling")
    if pooling is not None and pooling.value != "tok":
        raise ValueError(
            f"{pooling.source} pools a frame's tokens by {pooling.value!r}, here the cls token "
            "answers; such weights serve as the tower of an EVL only (clip=)"
        )
    if pooling is None and not model.ln_pre:
        why = "open_clip's CLIPA, without ln_pre too, has the mean"
        untold.doubtful("pooling", "cls", why, "use the weights as the tower of an EVL only")


def on_grid(
    model: Any, variables: dict[str, Any], grid: tuple[int, int] | None
) -> tuple[Any, dict[str, Any]]:
    """The model with its tower's position table resampled to a grid (H, W); None: as it is."""
    if grid is None or tuple(grid) == model.grid:
        return model, variables
    tower = dict(variables["params"]["tower"])
    tower["position_table"] = resampled(tower["position_table"], (1, *grid))
    return model.clone(grid=tuple(grid)), {"params": {**variables["params"], "tower": tower}}
