"""Names of AVION's and CLIP's state dicts -> those of AVION's models without flash attention."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert.mapping import as_float32

VISUAL, TEXTUAL = "visual.", "textual."
_TEXT_NAMES = re.compile(
    r"(transformer\.|token_embedding\.|ln_final\.)|(positional_embedding|text_projection)$"
)
_NOT_WEIGHTS = re.compile(r"(.*\.)?attn_mask$")  # a buffer of open_clip's text tower
# What flash attention's modules are called: the same tensors, in the same order of rows.
_FLASH = (
    (r"\.attn\.Wqkv\.", ".attn.in_proj_"),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of AVION's, OpenAI's or open_clip's under AVION's names.

    Of either tower alone, too. The patch embedding becomes a matrix [C, 3*p*p], as AVION stores it.
    """
    vision_only = "class_embedding" in state
    named = {}
    for name, value in state.items():
        if _NOT_WEIGHTS.match(name):
            continue
        for pattern, plain in _FLASH:
            name = re.sub(pattern, plain, name)
        name = re.sub(r"^text\.", TEXTUAL, name)  # open_clip's other layout
        if vision_only:
            name = VISUAL + name
        elif _TEXT_NAMES.match(name):
            name = TEXTUAL + name
        named["visual.image_projection" if name == "visual.proj" else name] = value
    weight = named.get("visual.conv1.weight")
    if weight is not None and np.ndim(weight) == 4:
        named["visual.conv1.weight"] = as_float32(weight).reshape(len(weight), -1)
    return named


def is_clip(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the names of OpenAI's and open_clip's models of images and text."""
    return "visual.proj" in state
