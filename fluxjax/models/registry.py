"""Names of models, and their construction."""

import dataclasses
import difflib
import fnmatch
import types
import typing
from typing import Any

import flax.linen as nn

from fluxjax.models.clip_image import ClipImage
from fluxjax.models.evl import Evl
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.models.videomae import VideoMae
from fluxjax.models.videomae_pretraining import VideoMaePretraining

_CLIP_L14 = {
    "width": 1024, "depth": 24, "num_heads": 16, "patch": 14, "grid": (16, 16), "embedding": 768,
}  # fmt: skip

_EVL_L14 = {
    "width": 1024, "depth": 24, "num_heads": 16, "patch": 14, "grid": (16, 16),
    "qkv_width": 1024, "decoder_heads": 16,
}  # fmt: skip

# Encoder and decoder of each size.
_VIDEOMAE = {
    "ti8": (
        {"width": 128, "depth": 4, "num_heads": 4, "patch": 8, "grid": (6, 6), "num_frames": 8},
        {"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 2},
    ),
    "s16": (
        {"width": 384, "depth": 12, "num_heads": 6},
        {"decoder_width": 192, "decoder_depth": 4, "decoder_heads": 3},
    ),
    "b16": (
        {"width": 768, "depth": 12, "num_heads": 12},
        {"decoder_width": 384, "decoder_depth": 4, "decoder_heads": 6},
    ),
    "l16": (
        {"width": 1024, "depth": 24, "num_heads": 16},
        {"decoder_width": 512, "decoder_depth": 12, "decoder_heads": 8},
    ),
    "h16": (
        {"width": 1280, "depth": 32, "num_heads": 16},
        {"decoder_width": 640, "decoder_depth": 12, "decoder_heads": 8},
    ),
}

# Sizes of the official constructors; "ti" is ours, for tests and quick demonstrations.
_MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "clip_ti8": (
        ClipImage,
        {"width": 64, "depth": 4, "num_heads": 4, "patch": 8, "grid": (6, 6), "embedding": 64},
    ),
    "clip_b32": (ClipImage, {"patch": 32, "grid": (7, 7)}),
    "clip_b16": (ClipImage, {}),
    "clip_l14": (ClipImage, _CLIP_L14),
    "clip_l14_336": (ClipImage, _CLIP_L14 | {"grid": (24, 24)}),
    "evl_ti8": (
        Evl,
        {
            "width": 64,
            "depth": 4,
            "num_heads": 4,
            "patch": 8,
            "grid": (6, 6),
            "decoder_layers": 2,
            "qkv_width": 64,
            "decoder_heads": 4,
        },
    ),
    "evl_b16": (Evl, {}),
    "evl_l14": (Evl, _EVL_L14),
    "evl_l14_336": (Evl, _EVL_L14 | {"grid": (24, 24)}),
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
    **{f"videomae_{size}": (VideoMae, encoder) for size, (encoder, _) in _VIDEOMAE.items()},
    **{
        f"videomae_{size}_pretrain": (VideoMaePretraining, encoder | decoder)
        for size, (encoder, decoder) in _VIDEOMAE.items()
    },
}


def register_model(name: str, model: type[nn.Module], **fields: Any) -> None:
    """Makes `create_model(name)` build `model(num_classes=.., **fields)`.

    Args:
      name: of a size, such as fluxvit_s14.
      model: the module class; its name is stored in checkpoints.
      **fields: of the class at this size.

    Raises:
      ValueError: if the name, or the class's name, is taken.
    """
    if _MODELS.get(name, (model, fields)) != (model, fields):
        raise ValueError(f"there is a model {name!r} already")
    if model_classes().get(model.__name__, model) is not model:
        raise ValueError(f"there is a model class {model.__name__} already")
    _MODELS[name] = model, fields


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows, sorted; those that a pattern such as "fluxvit*" fits."""
    return sorted(fnmatch.filter(_MODELS, pattern))


def model_classes() -> dict[str, type[nn.Module]]:
    """The classes that `create_model` builds, by their names."""
    return {kind.__name__: kind for kind, _ in _MODELS.values()}


def model_class(name: str) -> type[nn.Module]:
    """The class that `create_model` builds for a name.

    Raises:
      ValueError: on an unknown name, with the nearest known one.
    """
    return _known(name)[0]


def model_fields(name: str) -> dict[str, type]:
    """Fields that `create_model` takes for a name, with the type of their values.

    Raises:
      ValueError: on an unknown name, with the nearest known one.
    """
    constructor = _known(name)[0]
    hints = typing.get_type_hints(constructor)
    fields = {f.name for f in dataclasses.fields(constructor)} - {"parent", "name"}
    return {field: _plain_type(hints[field]) for field in sorted(fields)}


def _plain_type(hint: Any) -> type:
    """int of `int | None`, tuple of `tuple[int, ...]`; object of anything else."""
    options = [x for x in typing.get_args(hint) if x is not type(None)]
    if isinstance(hint, types.UnionType):
        return _plain_type(options[0])
    hint = typing.get_origin(hint) or hint
    return hint if isinstance(hint, type) else object


def _known(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    if name not in _MODELS:
        raise ValueError(f"unknown model {name!r}{_hint(name, _MODELS)}; known: {list_models()}")
    return _MODELS[name]


def create_model(name: str, num_classes: int | None = 400, **overrides: Any) -> nn.Module:
    """Creates a model by name, without parameters: call its `init`.

    Args:
      name: one of `list_models()`.
      num_classes: size of the classification heads; 0: a model without, which returns its pooled
        features; None: as the class says, such as CLIP's own projection.
      **overrides: fields of the model class to set instead of the named size's.

    Raises:
      ValueError: on an unknown name or field, with the nearest known one, or a value of another
        type than the field's.
    """
    constructor, fields = _known(name)
    known = {f.name for f in dataclasses.fields(constructor)} - {"parent", "name"}
    hints = typing.get_type_hints(constructor)
    for field, value in overrides.items():
        if field not in known:
            raise ValueError(
                f"{name} has no field {field!r}{_hint(field, known)}; fields: {sorted(known)}"
            )
        overrides[field] = _checked(name, field, value, hints[field])
    if num_classes is not None and (type(num_classes) is not int or num_classes < 0):
        raise ValueError(f"num_classes={num_classes!r} must be a number of classes; 0: no head")
    if num_classes == 0:
        if types.NoneType not in typing.get_args(hints["num_classes"]):
            raise ValueError(f"num_classes=0: a {constructor.__name__} needs its head")
        num_classes = None
        if "embedding" in known:  # the projection is a head, too
            overrides["embedding"] = None
    return constructor(num_classes=num_classes, **(fields | overrides))


def _checked(name: str, field: str, value: Any, hint: Any) -> Any:
    """The value of a field, lists as tuples.

    Raises:
      ValueError: if it is of another type than the field.
    """
    kind = _plain_type(hint)
    if value is None or kind in (object, Any):
        return value
    value = tuple(value) if kind is tuple and isinstance(value, list) else value
    if kind is float and type(value) is int:
        return float(value)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    sides = _sides(hint)
    example = ""
    if kind is tuple and isinstance(value, int):
        same = [value] * (1 if Ellipsis in sides else len(sides) or 1)
        example = f", e.g. {tuple(same)}"
    if not fits:
        raise ValueError(f"{name}: {field}={value!r} must be a {kind.__name__}{example}")
    if sides and Ellipsis not in sides and len(value) != len(sides):
        raise ValueError(f"{name}: {field}={value!r} must be {len(sides)} numbers")
    numeric = sides and all(side in (int, float, Ellipsis) for side in sides)
    if numeric and not all(isinstance(x, int | float) and x > 0 for x in value):
        raise ValueError(f"{name}: {field}={value!r} must be positive numbers")
    return value


def _sides(hint: Any) -> tuple[Any, ...]:
    """Types inside `tuple[..]`, also of `tuple[..] | None`; () for anything else."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    tuples = (option for option in options if typing.get_origin(option) is tuple)
    return typing.get_args(next(tuples, None))


def _hint(word: str, known) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
