"""What to say of a key that no config has: how it is called here, or which one is near."""

import ast
import difflib

from ml_collections import ConfigDict

_WIDTH = "model.dtype, 'bfloat16' or 'float32'"

SYNONYMS = {
    "learning_rate": "optim.lr",
    "base_lr": "optim.lr",
    "blr": "optim.lr",
    "min_lr": "optim.end_lr",
    "warmup": "optim.warmup_steps",
    "warmup_epochs": "optim.warmup_steps, in batches",
    "wd": "optim.weight_decay",
    "clip_grad": "optim.clip_norm",
    "grad_clip": "optim.clip_norm",
    "max_grad_norm": "optim.clip_norm",
    "accum_iter": "optim.accumulate_steps",
    "grad_accum": "optim.accumulate_steps",
    "grad_accum_steps": "optim.accumulate_steps",
    "gradient_accumulation_steps": "optim.accumulate_steps",
    "ema_decay": "optim.ema",
    "model_ema": "optim.ema",
    "model_ema_decay": "optim.ema",
    "steps": "total_steps",
    "max_steps": "total_steps",
    "num_steps": "total_steps",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "bs": "batch_size",
    "nb_classes": "num_classes",
    "num_frames": "grids.frames",
    "clip_len": "grids.frames",
    "resolution": "grids.resolutions",
    "image_size": "grids.resolutions",
    "img_size": "grids.resolutions",
    "input_size": "grids.resolutions",
    "crop_size": "grids.resolutions",
    "tokens": "budgets",
    "num_tokens": "budgets",
    "dataset": "data.train",
    "data_path": "data.train",
    "train_list": "data.train",
    "val": "data.test",
    "val_list": "data.test",
    "prefix": "data.root",
    "num_workers": "data.workers",
    "aa": "data.rand_augment",
    "randaugment": "data.rand_augment",
    "reprob": "erasing.prob",
    "random_erasing": "erasing.prob",
    "color_jitter": "jitter, of brightness, contrast, saturation and hue",
    "mixup": "mixing.prob, then mixing.mixup_alpha",
    "cutmix": "mixing.prob, then mixing.cutmix_alpha",
    "label_smoothing": "mixing.smoothing",
    "pretrained": "init_from",
    "weights": "init_from",
    "finetune": "init_from",
    "arch": "model.name",
    "backbone": "model.name",
    "precision": _WIDTH,
    "mixed_precision": _WIDTH,
    "amp": _WIDTH,
    "bf16": _WIDTH,
    "gpus": "mesh.data",
    "save_every": "checkpoint.every_steps",
    "save_freq": "checkpoint.every_steps",
    "log_interval": "log_every",
    "print_freq": "log_every",
}
"""Name in other code, or in an earlier version -> the key here, and after a comma a note."""


def unknown_key(key: str, config: ConfigDict) -> str:
    """One line on a dotted key that `config` lacks, with the key that was probably meant."""
    section, _, last = key.rpartition(".")
    homes: dict[str, list[str]] = {}  # name without its section -> the keys that are called so
    for known in all_keys(config):
        homes.setdefault(known.rpartition(".")[2], []).append(known)
    siblings = [name for name, keys in homes.items() for k in keys if _section(k) == section]
    message = f"unknown config key config.{key}"
    if last in SYNONYMS:
        target, comma, note = SYNONYMS[last].partition(",")
        return f"{message}; here it is config.{target}{comma}{note}"
    if last in homes:
        return f"{message}; did you mean config.{' or config.'.join(homes[last])}?"
    for names in (siblings, list(homes)):
        if near := difflib.get_close_matches(last, names, n=1):
            keys = sorted(homes[near[0]], key=lambda k: _section(k) != section)
            return f"{message}; did you mean config.{keys[0]}?"
    return f"{message}; known: {', '.join(sorted(siblings or config))}"


def set_key(config: ConfigDict, text: str) -> None:
    """Sets a key by KEY=VALUE, such as retrieve.merge=600,200,100 or eval.rerank=16.

    Raises:
      ValueError: on another form, an unknown key, or a value of another type.
    """
    key, equals, written = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} must be KEY=VALUE, such as eval.rerank=16")
    if key not in all_keys(config):
        raise ValueError(unknown_key(key, config))
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        value = written  # a text without quotes
    try:
        config.update_from_flattened_dict({key: value})
    except (TypeError, ValueError) as error:
        raise ValueError(f"config.{key}={written}: {error}") from error


def all_keys(config: ConfigDict, section: str = "") -> list[str]:
    """Dotted keys of all values, and of the sections that hold them."""
    keys = []
    for key in config:
        keys.append(f"{section}{key}")
        if isinstance(config[key], ConfigDict):
            keys += all_keys(config[key], f"{section}{key}.")
    return keys


def _section(key: str) -> str:
    return key.rpartition(".")[0]
