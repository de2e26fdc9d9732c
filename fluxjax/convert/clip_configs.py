"""What lies beside CLIP's weights and tells what their shapes do not: configs, names, marks.

config.json and preprocessor_config.json are transformers', open_clip_config.json is open_clip's.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluxjax.convert.untold import Told
from fluxjax.tokens.tokens import CLIP_PIXELS, PixelStats

logger = logging.getLogger(__name__)

_MAX_CONFIG = 10**6  # bytes
GELU_OF_HF = {
    "quick_gelu": "quick",
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
# Sizes that OpenAI's archives keep beside the weights, and their conversions do not.
_MARKS = {"input_resolution", "context_length", "vocab_size"}
# Data sets of open_clip's releases, whose models have exact GELU unless their name says otherwise.
_OPEN_CLIP_DATA = re.compile(r"laion|datacomp|commonpool", re.IGNORECASE)


def told_of(
    state: Mapping[str, Any], source: str | os.PathLike | None, width: int, depth: int
) -> dict[str, Told]:
    """What is known of an image encoder besides the shapes: keyword -> value and where from.

    Keywords are num_heads, gelu, image_size, pixels, epsilon and pooling, as far as they are told.

    Args:
      state: torch name -> array, of the whole file.
      source: the weights' file or folder, None for mappings.
      width, depth: of the image encoder. A config of other sizes is not of these weights.

    Raises:
      ValueError: if a config says what no model here can do.
    """
    told: dict[str, Told] = {}
    if _MARKS <= set(state):
        told["gelu"] = Told("quick", "an archive of OpenAI's")
        told["pixels"] = Told(CLIP_PIXELS, "an archive of OpenAI's")
    if source is None:
        return told
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    by_name = _gelu_by_name(source)
    for found in (_of_open_clip(folder), _of_transformers(folder)):
        sizes = found.pop("sizes", None)
        if sizes is None:
            continue
        if sizes.value != (width, depth):
            logger.warning(
                "%s in %s is of width and depth %s, the weights are of %s: it is not used",
                *(sizes.source, folder, sizes.value, (width, depth)),
            )
            continue
        told = found | told  # the archive's mark first, then open_clip's config
    return by_name | told


def _gelu_by_name(source: Path) -> dict[str, Told]:
    names = [source.name, *(p for p in source.absolute().parts[:-1] if "CLIP-ViT" in p)]
    for name in names:
        if "quickgelu" in name.lower():
            return {"gelu": Told("quick", f"the name {name}")}
    for name in names:
        if _OPEN_CLIP_DATA.search(name):
            return {"gelu": Told("exact", f"the name {name}")}
    return {}


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file, or it is no object."""
    path = folder / name
    try:
        if not path.is_file() or path.stat().st_size > _MAX_CONFIG:
            return {}
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        logger.warning("%s is no JSON and is not used: %s", path, str(error)[:100])
        return {}
    return config if isinstance(config, dict) else {}


def _object(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _of_open_clip(folder: Path) -> dict[str, Told]:
    source = "open_clip_config.json"
    config = read_config(folder, source)
    model = _object(config, "model_cfg")
    vision = _object(model, "vision_cfg")
    width, layers = vision.get("width", 768), vision.get("layers")
    head_width = vision.get("head_width", 64)
    if not all(type(size) is int and size > 0 for size in (width, layers, head_width)):
        return {}  # absent, or a tower of timm's or a ResNet, whose names are not read
    gelu = "quick" if model.get("quick_gelu") else "exact"
    if _object(vision, "act_kwargs").get("approximate") == "tanh":
        gelu = "tanh"
    found = {
        "sizes": (width, layers),
        "num_heads": width // head_width,
        "gelu": gelu,
        "image_size": image_size_of(vision.get("image_size")),
        "pixels": _pixels(_object(config, "preprocess_cfg"), "mean", "std"),
        "pooling": vision.get("pool_type", "tok"),
        "epsilon": _object(vision, "norm_kwargs").get("eps", 1e-5),
    }
    return {name: Told(value, source) for name, value in found.items() if value is not None}


def _of_transformers(folder: Path) -> dict[str, Told]:
    source = "config.json"
    config = read_config(folder, source)
    if config.get("model_type") not in ("clip", "clip_vision_model"):
        return {}
    # What it leaves out has the default of transformers' CLIPVisionConfig.
    vision = _object(config, "vision_config") if "vision_config" in config else config
    act = vision.get("hidden_act", "quick_gelu")
    if act not in GELU_OF_HF:
        raise ValueError(
            f"hidden_act {act!r} of {folder / source} is none of {sorted(GELU_OF_HF)}; pass "
            "weights of a model with GELU"
        )
    found = {
        "sizes": (vision.get("hidden_size", 768), vision.get("num_hidden_layers", 12)),
        "num_heads": vision.get("num_attention_heads", 12),
        "gelu": GELU_OF_HF[act],
        "image_size": image_size_of(vision.get("image_size")),
        "epsilon": vision.get("layer_norm_eps", 1e-5),
    }
    told = {name: Told(value, source) for name, value in found.items() if value is not None}
    processor = "preprocessor_config.json"
    pixels = _pixels(read_config(folder, processor), "image_mean", "image_std")
    return told if pixels is None else told | {"pixels": Told(pixels, processor)}


def image_size_of(value: Any) -> int | tuple[int, int] | None:
    """A config's image size, a number or (height, width); None for anything else."""
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value):
        return tuple(value)
    return value if type(value) is int else None


def _pixels(config: Mapping[str, Any], mean: str, std: str) -> PixelStats | None:
    stats = [config.get(mean), config.get(std)]
    for values in stats:
        if not isinstance(values, list) or len(values) != 3:
            return None
        if not all(type(value) in (int, float) for value in values):
            return None
    return PixelStats(*map(tuple, stats))
