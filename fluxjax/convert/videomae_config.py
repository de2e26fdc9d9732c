"""What transformers' config.json beside VideoMAE weights tells that shapes do not."""

import os
from pathlib import Path
from typing import Any

from fluxjax.convert.clip_configs import GELU_OF_HF, image_size_of, read_config
from fluxjax.convert.untold import Told

_FILE = "config.json"
# Keyword -> the config's key and its default in transformers' VideoMAEConfig.
_KEYS = {
    "num_heads": ("num_attention_heads", 12),
    "decoder_heads": ("decoder_num_attention_heads", 6),
    "num_frames": ("num_frames", 16),
    "epsilon": ("layer_norm_eps", 1e-12),
}


def told_of(source: str | os.PathLike | None, width: int) -> dict[str, Told]:
    """Keyword -> value and where from; empty without a config of a model of this width.

    Args:
      source: the weights' file or folder, None for mappings.
      width: of the encoder.

    Raises:
      ValueError: on an activation that no model here has.
    """
    if source is None:
        return {}
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    config = read_config(folder, _FILE)
    if config.get("model_type") != "videomae" or config.get("hidden_size", 768) != width:
        return {}
    act = config.get("hidden_act", "gelu")
    if act not in GELU_OF_HF:
        raise ValueError(
            f"hidden_act {act!r} of {folder / _FILE} is none of {sorted(GELU_OF_HF)}; pass weights "
            "of a model with GELU"
        )
    found: dict[str, Any] = {name: config.get(key, value) for name, (key, value) in _KEYS.items()}
    found["gelu"] = GELU_OF_HF[act]
    found["image_size"] = image_size_of(config.get("image_size", 224))
    return {name: Told(value, _FILE) for name, value in found.items() if value is not None}
