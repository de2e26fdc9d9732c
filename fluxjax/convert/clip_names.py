"""Names of CLIP's image encoder: OpenAI's, open_clip's and transformers' -> OpenAI's."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert.mapping import as_float32, is_count
from fluxjax.weight_files.errors import WeightsError

VISUAL = "visual."
_HF = "vision_model."
# The text encoder, the temperature, and the sizes that OpenAI's archives keep beside the weights.
_NOT_VISUAL = re.compile(
    r"(transformer|token_embedding|ln_final|text|text_model|text_projection|attn_mask)(\.|$)|"
    r"(positional_embedding|logit_scale|logit_bias|input_resolution|context_length|vocab_size)$|"
    r".*position_ids$"
)
# transformers' names, after "vision_model.", as regular expressions. "encoder." before "layers."
# may be gone with the prefixes of wrappers.
_LAYER = r"(?:encoder\.)?layers\.(\d+)\."
_HF_NAMES = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding\.", "conv1."),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"pre_layrnorm\.", "ln_pre."),
    (r"post_layernorm\.", "ln_post."),
    (_LAYER + r"layer_norm([12])\.", r"transformer.resblocks.\1.ln_\2."),
    (_LAYER + r"mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (_LAYER + r"mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
    (_LAYER + r"self_attn\.out_proj\.", r"transformer.resblocks.\1.attn.out_proj."),
)
_HF_SPLIT = re.compile(_LAYER + r"self_attn\.([qkv])_proj\.(weight|bias)")
# How transformers names the projection that a CLIPVisionModel lacks.
_HF_PROJECTION = "visual_projection.weight"


def visual_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The image encoder's tensors under OpenAI's names, without "visual."; of whole models too.

    Raises:
      WeightsError: on a name that belongs to no encoder.
    """
    if any(name.startswith(_HF) for name in state):
        state = _from_hugging_face(state)
    elif "embeddings.class_embedding" in state:  # a CLIPVisionModel of transformers 5
        state = _from_hugging_face({_HF + name: value for name, value in state.items()})
    if any(name.startswith(VISUAL) for name in state):
        others = [name for name in state if not name.startswith(VISUAL)]
        unknown = [name for name in others if not _NOT_VISUAL.match(name)]
        unknown = [name for name in unknown if not is_count(state[name])]
        if unknown:
            raise WeightsError(
                f"{len(unknown)} tensors belong to neither encoder of a CLIP: {unknown[:10]}"
            )
        state = {n.removeprefix(VISUAL): v for n, v in state.items() if n.startswith(VISUAL)}
    return {name: _of_images(name, value) for name, value in state.items()}


def _of_images(name: str, value: Any) -> Any:
    """Without the axis of time that UMT gives the patch embedding of its teacher."""
    if name == "conv1.weight" and np.ndim(value) == 5 and np.shape(value)[2] == 1:
        return np.asarray(value)[:, :, 0]
    return value


def _from_hugging_face(state: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' names -> OpenAI's; split projections are joined."""
    renamed, parts = {}, {}
    for name, value in state.items():
        if name == _HF_PROJECTION:
            renamed[VISUAL + "proj"] = np.asarray(value).T
            continue
        if not name.startswith(_HF) or name.endswith("position_ids"):
            if not name.startswith(_HF):
                renamed[name] = value  # the text encoder's, and what is wrong
            continue
        short = name.removeprefix(_HF)
        if split := _HF_SPLIT.fullmatch(short):
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
