"""Names of models, and their construction."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2

# Sizes of the official constructors; "ti" is ours, for tests and quick demonstrations.
_MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "fluxvit_ti14": (
        FluxViT,
        {
            "width": 128,
            "depth": 4,
            "num_heads": 4,
            "grid": (16, 8, 8),
            "pooled": 128,
            "pool_heads": 4,
        },
    ),
    "fluxvit_s14": (FluxViT, {"width": 384, "depth": 12, "num_heads": 6, "grid": (24, 18, 18)}),
    "fluxvit_b14": (FluxViT, {"width": 768, "depth": 12, "num_heads": 12, "grid": (32, 20, 20)}),
    "internvideo2_s14": (InternVideo2, {"width": 384, "depth": 12, "num_heads": 6}),
    "internvideo2_b14": (InternVideo2, {"width": 768, "depth": 12, "num_heads": 12}),
    "internvideo2_l14": (InternVideo2, {"width": 1024, "depth": 24, "num_heads": 16}),
    "internvideo2_1b14": (
        InternVideo2,
        {"width": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
    ),
}


def list_models() -> list[str]:
    """Names that `create_model` knows, sorted."""
    return sorted(_MODELS)


def model_classes() -> dict[str, type[nn.Module]]:
    """The classes that `create_model` builds, by their names."""
    classes = [kind for kind, _ in _MODELS.values() if isinstance(kind, type)]
    return {kind.__name__: kind for kind in classes}


def create_model(name: str, num_classes: int = 400, **overrides: Any) -> nn.Module:
    """Creates a model by name, without parameters: call its `init`.

    Args:
      name: one of `list_models()`.
      num_classes: size of the classification heads.
      **overrides: fields of the model class to set instead of the named size's.

    Raises:
      ValueError: on an unknown name or field, with the nearest known one.
    """
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}{_hint(name, _MODELS)}; known: {list_models()}")
    constructor, fields = _MODELS[name]
    known = {f.name for f in dataclasses.fields(constructor)} - {"parent", "name"}
    for field in overrides:
        if field not in known:
            raise ValueError(
                f"{name} has no field {field!r}{_hint(field, known)}; fields: {sorted(known)}"
            )
    return constructor(num_classes=num_classes, **(fields | overrides))


def _hint(word: str, known) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
