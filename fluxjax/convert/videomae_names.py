"""Names of VideoMAE's weights: AVION's flash ones and transformers' -> VideoMAE's own.

The encoder's names are without "encoder.", as `fluxjax.convert.states.state_of` leaves them.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxjax.convert.mapping import as_float32

_DECODER = re.compile(r"(decoder\.|encoder_to_decoder\.|mask_token$)")
# transformers' names as regular expressions. "encoder." before "layer." may be gone with the
# prefixes of wrappers.
_LAYER = r"(?:(?:encoder\.)?layer|(decoder\.)decoder_layers)\.(\d+)\."
_HF_NAMES = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (_LAYER + r"attention\.attention\.(?:q_bias|query\.bias)", r"\1blocks.\2.attn.q_bias"),
    (_LAYER + r"attention\.attention\.(?:v_bias|value\.bias)", r"\1blocks.\2.attn.v_bias"),
    (_LAYER + r"attention\.output\.dense\.", r"\1blocks.\2.attn.proj."),
    (_LAYER + r"layernorm_before\.", r"\1blocks.\2.norm1."),
    (_LAYER + r"layernorm_after\.", r"\1blocks.\2.norm2."),
    (_LAYER + r"intermediate\.dense\.", r"\1blocks.\2.mlp.fc1."),
    (_LAYER + r"output\.dense\.", r"\1blocks.\2.mlp.fc2."),
    (r"layernorm\.", "norm."),
    (r"classifier\.", "head."),
)
_HF_SPLIT = re.compile(_LAYER + r"attention\.attention\.(query|key|value)\.weight")
_HF_EMBEDDING = re.compile(r"(videomae\.)?embeddings\.patch_embeddings\.")


def is_hugging_face(state: Mapping[str, Any]) -> bool:
    """Whether names are those of transformers' VideoMAE models."""
    return any(_HF_EMBEDDING.match(name) for name in state)


def has_decoder(state: Mapping[str, Any]) -> bool:
    """Whether a state dict is of a pre-training model."""
    return any(_DECODER.match(name) for name in state)


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of any of the known names under VideoMAE's own."""
    return _without_flash(_from_hugging_face(state) if is_hugging_face(state) else state)


def _from_hugging_face(state: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' names -> VideoMAE's; split projections are joined."""
    renamed, parts = {}, {}
    for name, value in state.items():
        short = name.removeprefix("videomae.")
        if split := _HF_SPLIT.fullmatch(short):
            whole = f"{split[1] or ''}blocks.{split[2]}.attn.qkv.weight"
            parts.setdefault(whole, {})[split[3]] = value
            continue
        for pattern, ours in _HF_NAMES:
            if match := re.match(pattern, short):
                short = match.expand(ours) + short[match.end() :]
                break
        renamed[short] = value
    for whole, split in parts.items():
        if len(split) == 3:
            matrices = [as_float32(split[part]) for part in ("query", "key", "value")]
            renamed[whole] = np.concatenate(matrices)
    return renamed


def _without_flash(state: Mapping[str, Any]) -> dict[str, Any]:
    """AVION's names for flash attention -> plain ones.

    The bias of keys goes: it adds the same number to all logits of a query.
    """
    renamed = {}
    for name, value in state.items():
        if name.endswith(".attn.Wqkv.bias"):
            block = name.removesuffix("Wqkv.bias")
            renamed[f"{block}q_bias"], _, renamed[f"{block}v_bias"] = np.split(value, 3)
            continue
        name = name.replace(".attn.Wqkv.", ".attn.qkv.")
        renamed[name.replace(".attn.out_proj.", ".attn.proj.")] = value
    return renamed
