"""What the arguments beside AVION's released weights tell that shapes do not.

The official scripts pickle their `argparse.Namespace` into checkpoints; it is read as plain data.
"""

import os
from collections.abc import Mapping
from typing import Any

from fluxjax.convert.untold import Told
from fluxjax.models.avion import AVION_PIXELS
from fluxjax.tokens.tokens import IMAGENET_PIXELS
from fluxjax.weight_files.pickle_machine import Record
from fluxjax.weight_files.readers import load_tree

_SOURCE = "the checkpoint's args"
# args.model -> (width, heads, text width, text heads).
_MODELS = {
    "CLIP_VITB16": (768, 12, 512, 8),
    "CLIP_VITL14": (1024, 16, 768, 12),
    "CLIP_VITL14_336PX": (1024, 16, 768, 12),
}
_PIXELS = {"openai": AVION_PIXELS, "timm": IMAGENET_PIXELS}  # by args.norm_style


def told_of(source: str | os.PathLike | None, width: int, text_width: int) -> dict[str, Told]:
    """Keyword -> value and where from: num_heads, text_heads, pixels, causal, train_temperature.

    Args:
      source: the weights' file, None for mappings.
      width, text_width: of the towers. A model of other widths is not that of the weights.
    """
    args = {} if source is None else _args_of(load_tree(source))
    told: dict[str, Any] = {}
    sizes = _MODELS.get(args.get("model"), (0, 0, 0, 0))
    if sizes[0] == width:
        told["num_heads"] = sizes[1]
    if sizes[2] == text_width:
        told["text_heads"] = sizes[3]
    if args.get("norm_style") in _PIXELS:
        told["pixels"] = _PIXELS[args["norm_style"]]
    if type(args.get("use_bidirectional_lm")) is bool:
        told["causal"] = not args["use_bidirectional_lm"]
    if type(args.get("freeze_temperature")) is bool:
        told["train_temperature"] = not args["freeze_temperature"]
    return {name: Told(value, _SOURCE) for name, value in told.items()}


def _args_of(tree: object) -> dict[str, Any]:
    """The text, numbers and flags among the arguments."""
    args = tree.get("args") if isinstance(tree, Mapping) else None
    fields = args.fields if isinstance(args, Record) else args
    if not isinstance(fields, Mapping):
        return {}
    return {name: value for name, value in fields.items() if type(value) in (str, int, float, bool)}
