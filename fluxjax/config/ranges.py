"""Ranges of the numbers in a config, and the batches that devices can share."""

import math
import os
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

DTYPES = ("float32", "bfloat16", "float16")  # of the computation

_Check = Callable[[Any], bool]

_AT_LEAST_1: tuple[_Check, str] = (lambda x: x >= 1, "must be at least 1")
_NOT_NEGATIVE: tuple[_Check, str] = (lambda x: x >= 0, "must not be negative")
_POSITIVE: tuple[_Check, str] = (lambda x: x > 0, "must be positive")
_BOUND: tuple[_Check, str] = (lambda x: 0 < x < math.inf, "must be positive and finite")
_PROBABILITY: tuple[_Check, str] = (lambda x: 0 <= x <= 1, "must be a probability in [0, 1]")
_BELOW_1: tuple[_Check, str] = (lambda x: 0 <= x < 1, "must be at least 0 and less than 1")
_COUNTS: tuple[_Check, str] = (
    lambda x: len(x) > 0 and all(type(i) is int and i >= 1 for i in x),
    "must be whole numbers of at least 1, and at least one of them",
)


def _interval(low: float, high: float) -> tuple[_Check, str]:
    return (
        lambda x: len(x) == 2 and low < x[0] <= x[1] <= high,
        f"must be two ascending numbers above {low:g}" + (" and up to 1" if high == 1 else ""),
    )


def _one_of(*names: str) -> tuple[_Check, str]:
    return lambda x: x in names, f"must be one of {', '.join(names)}"


RANGES: dict[str, tuple[_Check, str]] = {
    "seed": _NOT_NEGATIVE,
    "total_steps": _AT_LEAST_1,
    "epochs": _POSITIVE,
    "batch_size": _AT_LEAST_1,
    "log_every": _AT_LEAST_1,
    "max_skipped_steps": _NOT_NEGATIVE,
    "profile_steps": (
        lambda x: len(x) == 0 or (len(x) == 2 and 1 <= x[0] <= x[1]),
        "must be () or (first, last), steps counted from 1",
    ),
    "num_classes": _AT_LEAST_1,
    "mesh.data": _AT_LEAST_1,
    "mesh.fsdp": _AT_LEAST_1,
    "mesh.tensor": _AT_LEAST_1,
    "model.dtype": _one_of(*DTYPES),
    "model.drop_path": _BELOW_1,
    "model.width": _AT_LEAST_1,
    "model.depth": _AT_LEAST_1,
    "model.num_heads": _AT_LEAST_1,
    "model.patch": _AT_LEAST_1,
    "model.tubelet": _AT_LEAST_1,
    "model.decoder_width": _AT_LEAST_1,
    "model.decoder_depth": _NOT_NEGATIVE,
    "model.decoder_heads": _AT_LEAST_1,
    "budgets": (
        lambda x: all(type(i) is int and i >= 1 for i in x),
        "must be whole numbers of at least 1",  # none for models without heads for budgets
    ),
    "single_budget": _AT_LEAST_1,
    "grids.frames": _COUNTS,
    "grids.resolutions": _COUNTS,
    "data.classes": (lambda x: len(x) != 1, "must name two classes or more; () is all"),
    "data.repeats": _AT_LEAST_1,
    "data.workers": _AT_LEAST_1,
    "data.cache": (
        lambda x: x in ("", "memory") or os.sep in x,
        f"must be '', memory or a folder, written with a {os.sep}, such as .{os.sep}frames",
    ),
    "data.cache_gib": _BOUND,
    "data.decode_seconds": _POSITIVE,
    "data.first_seconds": _POSITIVE,
    "data.max_bad_share": (lambda x: 0 <= x <= 1, "must be a share between 0 and 1"),
    "data.crop_scale": _interval(0, 1),
    "data.crop_ratio": _interval(0, float("inf")),
    "erasing.prob": _PROBABILITY,
    "jitter.brightness": _NOT_NEGATIVE,
    "jitter.contrast": _NOT_NEGATIVE,
    "jitter.saturation": _NOT_NEGATIVE,
    "jitter.hue": (lambda x: 0 <= x <= 0.5, "must be 0 or more, and at most 0.5 for hue"),
    "mixing.prob": _PROBABILITY,
    "mixing.switch_prob": _PROBABILITY,
    "mixing.mixup_alpha": _NOT_NEGATIVE,
    "mixing.cutmix_alpha": _NOT_NEGATIVE,
    "mixing.smoothing": _BELOW_1,
    "optim.name": _one_of("adamw", "lion", "sgd"),
    "optim.schedule": _one_of("cosine", "slowfast_cosine", "steps"),
    "optim.decay_steps": (
        lambda x: all(type(i) is int and i >= 1 for i in x),
        "must be whole numbers of at least 1, batches; () unless optim.schedule is 'steps'",
    ),
    "optim.decay_factor": _POSITIVE,
    "optim.momentum": _BELOW_1,
    "optim.head_lr_scale": _NOT_NEGATIVE,
    "optim.head_bias_lr_scale": _NOT_NEGATIVE,
    "optim.lr": _NOT_NEGATIVE,
    "optim.end_lr": _NOT_NEGATIVE,
    "optim.warmup_lr": _NOT_NEGATIVE,
    "optim.warmup_steps": _NOT_NEGATIVE,
    "optim.b1": _BELOW_1,
    "optim.b2": _BELOW_1,
    "optim.eps": _POSITIVE,
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.layer_decay": _POSITIVE,
    "optim.clip_norm": _POSITIVE,
    "optim.accumulate_steps": _AT_LEAST_1,
    "optim.ema": _BELOW_1,
    "eval.budgets": _COUNTS,
    "eval.clips": _AT_LEAST_1,
    "eval.crops": _AT_LEAST_1,
    "eval.crop_share": (lambda x: 0 < x <= 1, "must be a share above 0 and up to 1"),
    "eval.crop_place": _one_of("centre", "start", "whole"),
    "eval.batch_size": _AT_LEAST_1,
    "eval.every_steps": _NOT_NEGATIVE,
    "eval.dual_softmax": _POSITIVE,
    "eval.rerank": _AT_LEAST_1,
    "probe.videos": _NOT_NEGATIVE,
    "probe.k": _AT_LEAST_1,
    "probe.temperature": _POSITIVE,
    "probe.l2": _NOT_NEGATIVE,
    "probe.iterations": _AT_LEAST_1,
    "checkpoint.every_steps": _AT_LEAST_1,
    "checkpoint.keep": _AT_LEAST_1,
}
"""Key -> (what its value must satisfy unless it is None, the same in words)."""


def check_ranges(config: ConfigDict) -> None:
    """Refuses numbers that cannot work.

    Raises:
      ValueError: naming the key, the value and the rule.
    """
    for key, (holds, rule) in RANGES.items():
        section, _, field = key.rpartition(".")
        # Fields of a model that is of another kind are not there.
        value = (get(config, section) if section else config).get(field)
        if value is not None and not holds(value):
            raise ValueError(f"config.{key}={value!r} {rule}")


def check_devices(config: ConfigDict, shards: int) -> None:
    """Refuses batches that do not divide among the devices along the mesh axes data and fsdp.

    Raises:
      ValueError: naming the key, the value and the remedy.
    """
    for key in ("batch_size", "eval.batch_size"):
        if get(config, key) % shards:
            raise ValueError(
                f"config.{key}={get(config, key)} must be a multiple of the {shards} devices along "
                "the mesh axes data and fsdp"
            )


def get(config: ConfigDict, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config
