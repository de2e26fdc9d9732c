"""Official VideoMAE weights <-> `fluxjax.models.videomae` and `videomae_pretraining`.

Source: names and shapes of the state dicts of MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2 and
zhaoyue-zephyrus/AVION; names of transformers' VideoMAE models, see `videomae_names`.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert import label_sets, shapes
from fluxjax.convert.mapping import Layout, Row, dense, kernel, layer_norm, to_variables, vector
from fluxjax.convert.untold import Untold, check_fields, checked_gelu, checked_heads
from fluxjax.convert.videomae_config import told_of
from fluxjax.convert.videomae_names import has_decoder, is_hugging_face, plain_state
from fluxjax.models.videomae import VideoMae
from fluxjax.models.videomae_encoder import VideoMaeFields
from fluxjax.models.videomae_pretraining import VideoMaePretraining

# Width -> heads of released encoders (S, B, L, H, VideoMAEv2's g) and decoders; first our "ti".
_HEADS = {128: 4, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_DECODER_HEADS = {64: 2, 192: 3, 384: 6, 512: 8, 640: 8}
_RELEASED_WIDTHS = (384, 768, 1024, 1280, 1408)  # trained on 16 frames of 224 pixels
_HEAD = ("head.weight", "head.bias")
_ENCODER = "encoder."  # before the encoder's names in pre-training models
_INFERRED = (
    *("width", "depth", "mlp_ratio", "patch", "conv_patch", "qkv_bias", "layer_scale"),
    *("encoder_norm", "decoder_width", "decoder_depth", "decoder_mlp_ratio"),
)


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    num_heads: int | None = None,
    decoder_heads: int | None = None,
    num_frames: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    tubelet: int | None = None,
    gelu: str | None = None,
    epsilon: float | None = None,
    pooling: str | None = None,
    num_classes: int | None = None,
    label_map: Sequence[int] | None = None,
    head_key: jax.Array | None = None,
    **fields: Any,
) -> tuple[VideoMae | VideoMaePretraining, dict[str, Any]]:
    """Builds the model that a VideoMAE state dict belongs to, and its variables.

    Weights with a decoder give a `VideoMaePretraining`, all others a `VideoMae`, without a head a
    backbone. `head_key` asks for a classifier with a new head; a decoder is left out then.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from; a config.json of transformers beside it is read.
      num_heads, decoder_heads: of encoder and decoder; default: the released model's of that width.
      num_frames, image_size: frames, and pixels a side or (height, width), of the clips that the
        weights were trained on, which the fixed positions are made for. Default: 16 and 224 for
        released widths; else positions are made for each clip's own grid.
      tubelet: frames of a token, where the patch embedding does not tell; default 2.
      gelu: "exact" (default), "tanh" or "quick".
      epsilon: of the LayerNorms; default 1e-6, of transformers' models 1e-12.
      pooling: of a classifier or backbone, see `VideoMae`; default: by the norms there are.
      num_classes, label_map, head_key: see `fluxjax.convert.fluxvit.load`.
      **fields: other fields of the model, such as dtype, attention or drop_path.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the shapes.
    """
    hugging_face = is_hugging_face(state)
    state = _named(state, head_key)
    kind = VideoMaePretraining if has_decoder(state) else VideoMae
    check_fields(load, kind, fields, _INFERRED)
    state, num_classes = _with_head(state, num_classes, label_map, head_key)
    width = shapes.infer(state, "a VideoMAE", (r"blocks\.\d+\.norm[12]\.weight", 0))
    untold = Untold(
        f"VideoMAE of width {width}", told_of(source, width) if hugging_face else {}, source
    )
    found = _encoder_fields(state, width, untold, num_heads, tubelet, gelu)
    found |= _positions(width, found["patch"], num_frames, image_size, untold)
    found |= _epsilons(epsilon, hugging_face, untold)
    if kind is VideoMaePretraining:
        found |= _decoder_fields(state, decoder_heads, untold)
    else:
        pooling = untold.choose("pooling", pooling, released=_pooling(state, num_classes))
        found |= {"pooling": pooling, "num_classes": num_classes}
    model = kind(**(found | fields))
    untold.say()
    return model, _variables(model, state, head_key)


def _named(state: Mapping[str, Any], head_key: jax.Array | None) -> dict[str, Any]:
    """Plain names; of pre-trained weights for a new head only embedding and blocks."""
    state = plain_state(state)
    if head_key is None or any(name in state for name in _HEAD):
        return state
    trunk = ("patch_embed.", "blocks.")
    return {name: value for name, value in state.items() if name.startswith(trunk)}


def _with_head(
    state: dict[str, Any],
    num_classes: int | None,
    label_map: Sequence[int] | None,
    head_key: jax.Array | None,
) -> tuple[dict[str, Any], int | None]:
    """The state dict with the head that is asked for, and its classes; None without a head."""
    if head_key is not None or any(name in state for name in _HEAD):
        return label_sets.heads_for(state, _HEAD, num_classes, label_map, head_key)
    if num_classes is not None or label_map is not None:
        raise ValueError("num_classes= and label_map= need a checkpoint with a head, or head_key=")
    return state, None


def _encoder_fields(
    state: Mapping[str, Any],
    width: int,
    untold: Untold,
    num_heads: int | None,
    tubelet: int | None,
    gelu: str | None,
) -> dict[str, Any]:
    """Fields of the transformer, off the shapes and the keywords."""
    hidden = shapes.infer(state, "a VideoMAE", (r"blocks\.\d+\.mlp\.fc1\.(weight|bias)", 0))
    heads = untold.choose("num_heads", num_heads, released=_HEADS.get(width))
    gelu = untold.choose("gelu", gelu, released="exact")
    untold.known("pixels", VideoMaeFields.pixels, "the official recipe")
    shape = np.shape(state.get("patch_embed.proj.weight", ()))
    conv = len(shape) == 5
    if conv:
        if tubelet not in (None, shape[2]):
            raise ValueError(f"tubelet={tubelet}, the patch embedding is of {shape[2]} frames")
        tubelet, patch = shape[2], shape[-1]
    else:
        tubelet = untold.choose("tubelet", tubelet, released=2)
        patch = math.isqrt(shape[-1] // 3 // tubelet) if len(shape) == 2 else VideoMaeFields.patch
        if len(shape) == 2 and 3 * tubelet * patch**2 != shape[-1]:
            raise ValueError(
                f"a patch embedding of {shape[-1]} values holds no square patches of {tubelet} "
                "frames; pass tubelet= of the checkpoint"
            )
    scale = state.get("blocks.0.gamma_1")
    return {
        "width": width,
        "depth": shapes.count(state, r"blocks\.(\d+)\."),
        "num_heads": checked_heads("num_heads", width, heads),
        "mlp_ratio": shapes.ratio_of(hidden, width),
        "tubelet": tubelet,
        "patch": patch,
        "conv_patch": conv,
        "qkv_bias": any(name.endswith(("attn.q_bias", "attn.v_bias")) for name in state),
        # Loaded values replace the initial ones.
        "layer_scale": None if scale is None else 1e-5,
        "gelu": checked_gelu("gelu", gelu),
    }


def _positions(
    width: int,
    patch: int,
    num_frames: int | None,
    image_size: int | tuple[int, int] | None,
    untold: Untold,
) -> dict[str, Any]:
    """Fields of the fixed positions, which no state dict holds."""
    released = width in _RELEASED_WIDTHS and patch in (14, 16)
    if image_size is None and "image_size" not in untold.told and not released:
        untold.known("positions", "each clip's own", "of no known size")
        return {"grid": None, **({} if num_frames is None else {"num_frames": num_frames})}
    size = untold.choose("image_size", image_size, released=224)
    frames = untold.choose("num_frames", num_frames, released=16)
    height, width = (size,) * 2 if isinstance(size, int) else size
    return {"grid": (height // patch, width // patch), "num_frames": frames}


def _epsilons(epsilon: float | None, hugging_face: bool, untold: Untold) -> dict[str, Any]:
    """transformers' norms before heads have PyTorch's default, whatever its config says."""
    own = untold.choose("epsilon", epsilon, released=1e-12 if hugging_face else 1e-6)
    return {"epsilon": own, "head_epsilon": 1e-5 if hugging_face else own}


def _decoder_fields(
    state: Mapping[str, Any], decoder_heads: int | None, untold: Untold
) -> dict[str, Any]:
    what = "a VideoMAE with a decoder"
    width = shapes.infer(
        state, what, (r"decoder\.blocks\.\d+\.norm[12]\.weight", 0), ("mask_token", -1)
    )
    fc1 = (r"decoder\.blocks\.\d+\.mlp\.fc1\.(weight|bias)", 0)
    depth = shapes.count(state, r"decoder\.blocks\.(\d+)\.")
    heads = untold.choose("decoder_heads", decoder_heads, released=_DECODER_HEADS.get(width))
    ratio = shapes.ratio_of(shapes.infer(state, what, fc1), width) if depth else None
    return {
        "encoder_norm": any(name.startswith("norm.") for name in state),
        "decoder_width": width,
        "decoder_depth": depth,
        "decoder_heads": checked_heads("decoder_heads", width, heads),
        "decoder_mlp_ratio": ratio,
    }


def _pooling(state: Mapping[str, Any], num_classes: int | None) -> str:
    """By the norms: `fc_norm` follows the mean, `norm` is the encoder's own."""
    if "norm.weight" in state and "fc_norm.weight" not in state:
        return "mean_of_normed" if num_classes is None else "first"
    return "mean"


def _variables(
    model: VideoMae | VideoMaePretraining, state: Mapping[str, Any], head_key: jax.Array | None
) -> dict[str, Any]:
    """The state dict's tensors as variables, with a new head if there is a key for it."""
    table = [row.without(_ENCODER) for row in rows_of(model)]
    drawn = {}
    if head_key is not None:
        new = [r for r in table if r.name not in state and r.name.startswith(("head.", "fc_norm."))]
        drawn = label_sets.new_parameters(new, head_key, std=0.02 * 0.001)  # official init_scale
        table = [row for row in table if row not in new]
    return to_variables(state, table, f"VideoMAE of width {model.width}", drawn)


def rows_of(model: VideoMae | VideoMaePretraining) -> list[Row]:
    """The table of a model's official state dict, with plain attention names."""
    pretraining = isinstance(model, VideoMaePretraining)
    rows = _embedding_rows(model)
    for i in range(model.depth):
        rows += _block_rows(model, f"blocks.{i}", f"encoder/blocks_{i}", model.width)
    if model.encoder_norm if pretraining else model.pooling != "mean":
        rows += layer_norm("norm", "encoder/final_norm", model.width)
    if pretraining:
        return [row.within(_ENCODER) for row in rows] + _decoder_rows(model)
    if model.pooling == "mean":
        rows += layer_norm("fc_norm", "fc_norm", model.width)
    if model.num_classes is not None:
        rows += dense("head", "head", model.width, model.num_classes)
    return rows


def _embedding_rows(model: VideoMaeFields) -> list[Row]:
    cube = (3, model.tubelet, model.patch, model.patch)
    shape = (model.width, *cube) if model.conv_patch else (model.width, math.prod(cube))
    path = "encoder/patch_embed"
    weight = Row("patch_embed.proj.weight", shape, (f"{path}/kernel",), _cube_matrix(cube))
    return [weight, vector("patch_embed.proj.bias", f"{path}/bias", model.width)]


def _cube_matrix(cube: tuple[int, int, int, int]) -> Layout:
    """Stored [C, 3, t, p, p] or [C, 3*t*p*p] <-> matrix [t*p*p*3, C]; ours have channels last."""
    channels, frames, rows, columns = cube

    def split(x):
        x = x.reshape(-1, *cube).transpose(2, 3, 4, 1, 0)
        return (x.reshape(-1, x.shape[-1]),)

    def join(arrays, shape):
        x = arrays[0].reshape(frames, rows, columns, channels, shape[0])
        return x.transpose(4, 3, 0, 1, 2).reshape(shape)

    return Layout(split, join)


def _block_rows(
    model: VideoMaeFields, name: str, path: str, width: int, ratio: float | None = None
) -> list[Row]:
    hidden = int(width * (ratio or model.mlp_ratio))
    rows = [
        *layer_norm(f"{name}.norm1", f"{path}/norm1", width),
        kernel(f"{name}.attn.qkv.weight", f"{path}/attn/qkv", width, 3 * width),
        *dense(f"{name}.attn.proj", f"{path}/attn/proj", width, width),
        *layer_norm(f"{name}.norm2", f"{path}/norm2", width),
        *dense(f"{name}.mlp.fc1", f"{path}/mlp/fc1", width, hidden),
        *dense(f"{name}.mlp.fc2", f"{path}/mlp/fc2", hidden, width),
    ]
    if model.qkv_bias:
        biases = ("q_bias", "v_bias")
        rows += [vector(f"{name}.attn.{bias}", f"{path}/attn/{bias}", width) for bias in biases]
    if model.layer_scale:
        rows += [vector(f"{name}.gamma_{i}", f"{path}/ls{i}/gamma", width) for i in "12"]
    return rows


def _decoder_rows(model: VideoMaePretraining) -> list[Row]:
    width, values = model.decoder_width, model.tubelet * model.patch**2 * 3
    rows = [
        vector("mask_token", "mask_token", width, (1, 1, width)),
        kernel("encoder_to_decoder.weight", "encoder_to_decoder", model.width, width),
    ]
    for i in range(model.decoder_depth):
        name, path = f"decoder.blocks.{i}", f"decoder/blocks_{i}"
        rows += _block_rows(model, name, path, width, model.decoder_mlp_ratio)
    rows += layer_norm("decoder.norm", "decoder/norm", width)
    return rows + dense("decoder.head", "decoder/head", width, values)
