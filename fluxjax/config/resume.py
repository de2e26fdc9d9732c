"""Which keys may change when a run goes on in its workdir, and what to say of the others."""

import fnmatch
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

HARMLESS = (
    "imports", "log_every", "wandb", "max_skipped_steps", "dry_run", "dry_run_topology",
    "profile_steps", "compile_cache", "mesh.*",
    "model.remat", "model.attention", "model.scan_blocks", "data.dir", "data.root", "data.workers",
    "data.test", "data.test_split", "data.cache", "data.cache_gib", "data.decode_seconds",
    "data.max_bad_share", "data.manifests", "features.dir", "eval.*", "probe.*", "checkpoint.*",
)  # fmt: skip
"""How and where it is computed, said, kept and measured: what is learnt does not depend on it."""

FROM_NOW_ON = (
    "total_steps", "optim.lr", "optim.end_lr", "optim.warmup_lr", "optim.warmup_steps", "optim.b1",
    "optim.b2", "optim.eps", "optim.weight_decay", "optim.layer_decay", "optim.clip_norm",
    "optim.ema", "optim.ema_warmup",
)  # fmt: skip
"""Settings of the optimizer: they hold from the resumed step on. All other keys say what a run is:
its model and objective, its data, their order and how clips are cut and augmented."""

PATHS = ("data.train", "init_from", "pretrain.data.train", "pretrain.init_from")
_PRETRAIN = "pretrain."


def changes(stored: ConfigDict, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (stored, new value) where they differ; None is the absence of a key, too."""
    before, now = dict(_flat(stored.to_dict())), dict(_flat(config.to_dict()))
    return {
        key: (before.get(key), now.get(key))
        for key in sorted(before | now)
        if before.get(key) != now.get(key)
    }


def refused(changed: dict[str, tuple[Any, Any]], allowed: tuple[str, ...]) -> list[str]:
    """The changed keys that no pattern of `allowed` names; of a `pretrain`, HARMLESS ones may."""
    return [
        key
        for key in changed
        if not _named(key, allowed)
        and not (key.startswith(_PRETRAIN) and _named(key.removeprefix(_PRETRAIN), HARMLESS))
    ]


def in_words(changed: dict[str, tuple[Any, Any]], keys: list[str]) -> str:
    """E.g. config.seed=1 (was 0), config.batch_size=8 (was 16)."""
    return ", ".join(f"config.{key}={changed[key][1]!r} (was {changed[key][0]!r})" for key in keys)


def _named(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _flat(tree: dict[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{key}.")
        else:
            yield f"{section}{key}", value
