"""What FluxViT's and InternVideo2's state dicts have in common: patches, blocks, pooling.

Source: names and shapes of OpenGVLab/FluxViT and OpenGVLab/InternVideo, single_modality.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert import shapes
from fluxjax.convert.mapping import PATCH_KERNEL, Row, dense, kernel, layer_norm, vector
from fluxjax.convert.untold import Untold, checked_gelu, checked_heads
from fluxjax.tokens.grids import PATCH
from fluxjax.tokens.tokens import IMAGENET_PIXELS

# (width, depth) -> heads of the transformer, of the pooling projectors: FluxViT S and B,
# InternVideo2 S, B, L, 1B and 6B; the first is our own "ti".
_RELEASED = {
    (128, 4): (4, 4),
    (384, 12): (6, 16),
    (768, 12): (12, 16),
    (1024, 24): (16, 16),
    (1408, 40): (16, 16),
    (3200, 48): (25, 16),
}
_LAYER_SCALE = 1e-5  # initial value of the official models; loaded values replace it


def trunk_width(state: Mapping[str, Any], what: str) -> int:
    """The width of a FluxViT's or InternVideo2's transformer."""
    per_block = r"blocks\.\d+\.(norm[12]|attn\.[qk]_norm)\.weight"
    return shapes.infer(state, what, (per_block, 0), ("cls_token", -1), (r"pos_embed.*", -1))


def patch_size(state: Mapping[str, Any]) -> int:
    """Pixels a side of a patch; 14 if the embedding is missing, which is reported later."""
    shape = np.shape(state.get("patch_embed.proj.weight", ()))
    return shape[-1] if len(shape) == 5 else PATCH


def stored_grid_of(
    state: Mapping[str, Any],
    patch: int,
    num_frames: int | None,
    image_size: int | tuple[int, int] | None,
    released: Mapping[int, tuple[int, int, int]],
    untold: Untold,
) -> tuple[int, int, int]:
    """The grid of `pos_embed`, see `shapes.grid_of`; any if it is missing, as reported later."""
    shape = np.shape(state.get("pos_embed", ()))
    if len(shape) != 3:
        return (1, 1, 1)
    return shapes.grid_of(shape[1] - 1, patch, num_frames, image_size, released, untold)


def trunk_fields(
    state: Mapping[str, Any],
    width: int,
    untold: Untold,
    num_heads: int | None,
    pool_num_heads: int | None,
    gelu: str | None,
) -> dict[str, Any]:
    """The model fields that FluxViT and InternVideo2 share, off the shapes and the keywords."""
    what = f"a vision transformer of width {width}"
    hidden = shapes.infer(state, what, (r"blocks\.\d+\.mlp\.fc1\.(weight|bias)", 0))
    pooler = r"clip_projector\.(\d+\.)?cross_attn\.proj\.(weight|bias)"
    scaled = any(name.endswith((".ls1.gamma", ".ls2.gamma")) for name in state)
    depth = shapes.count(state, r"blocks\.(\d+)\.")
    heads, pool_heads = _RELEASED.get((width, depth), (None, None))
    tanh = "tanh" if heads else None
    why = "as in all released models"
    # A released width of another depth, such as a model that was cut, has that width's heads.
    same_width = next((known for (w, _), (known, _) in _RELEASED.items() if w == width), None)
    num_heads = untold.choose(
        "num_heads", num_heads, released=heads, assumed=same_width, why="as released at this width"
    )
    pool_num_heads = untold.choose(
        "pool_num_heads", pool_num_heads, released=pool_heads, assumed=16, why=why
    )
    gelu = untold.choose("gelu", gelu, released=tanh, assumed="tanh", why=why)
    untold.known("pixels", IMAGENET_PIXELS, "the official recipe")
    untold.known("epsilon", "1e-6 in RMSNorm, 1e-5 in LayerNorm", "the official code")
    return {
        "width": width,
        "depth": depth,
        "num_heads": checked_heads("num_heads", width, num_heads),
        "pool_heads": checked_heads("pool_num_heads", width, pool_num_heads),
        "gelu": checked_gelu("gelu", gelu),
        "mlp_ratio": shapes.ratio_of(hidden, width),
        "pooled": shapes.infer(state, what, (pooler, 0)),
        "layer_scale": _LAYER_SCALE if scaled else None,
    }


def patch_rows(name: str, path: str, width: int, patch: int) -> list[Row]:
    """The patch embedding's convolution: [C, 3, 1, p, p] and bias."""
    weight = Row(f"{name}.weight", (width, 3, 1, patch, patch), (f"{path}/kernel",), PATCH_KERNEL)
    return [weight, vector(f"{name}.bias", f"{path}/bias", width)]


def depthwise(name: str, path: str, width: int) -> list[Row]:
    """A depthwise convolution of size 1x1x1: a scale and a bias a channel."""
    return [
        vector(f"{name}.depthwise_conv.weight", f"{path}/scale", width, (width, 1, 1, 1, 1)),
        vector(f"{name}.depthwise_conv.bias", f"{path}/bias", width),
    ]


def block_rows(name: str, path: str, width: int, hidden: int, layer_scale: bool) -> list[Row]:
    """A transformer block without LPE."""
    scales = [vector(f"{name}.{ls}.gamma", f"{path}/{ls}/gamma", width) for ls in ("ls1", "ls2")]
    return [
        vector(f"{name}.norm1.weight", f"{path}/norm1/scale", width),
        kernel(f"{name}.attn.qkv.weight", f"{path}/attn/qkv", width, 3 * width),
        vector(f"{name}.attn.q_norm.weight", f"{path}/attn/q_norm/scale", width),
        vector(f"{name}.attn.k_norm.weight", f"{path}/attn/k_norm/scale", width),
        *dense(f"{name}.attn.proj", f"{path}/attn/proj", width, width),
        vector(f"{name}.norm2.weight", f"{path}/norm2/scale", width),
        *dense(f"{name}.mlp.fc1", f"{path}/mlp/fc1", width, hidden),
        *dense(f"{name}.mlp.fc2", f"{path}/mlp/fc2", hidden, width),
        *(scales if layer_scale else []),
    ]


def pooler_rows(name: str, path: str, width: int, pooled: int) -> list[Row]:
    """An attention pooling projector."""
    rows = []
    for part in "qkv":
        rows += layer_norm(f"{name}.norm1_{part}", f"{path}/norm_{part}", width)
        rows.append(kernel(f"{name}.cross_attn.{part}.weight", f"{path}/{part}", width, width))
        rows.append(vector(f"{name}.cross_attn.{part}_bias", f"{path}/{part}/bias", width))
    return rows + dense(f"{name}.cross_attn.proj", f"{path}/proj", width, pooled)
