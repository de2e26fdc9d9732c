"""Configs from WORKDIR/config.json: `--config WORKDIR/config.json` repeats that run.

`fluxjax.main` hands ml_collections this file as the config file, with the path as its argument.
"""

import json
import logging
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from fluxjax.config.keys import base_config, import_modules
from fluxjax.config.names import unknown_key

log = logging.getLogger(__name__)


def write(config: ConfigDict, path: pathlib.Path) -> None:
    """Stores a resolved config."""
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def get_config(path: str) -> ConfigDict:
    """The config that `write` stored, also that of an earlier version of fluxjax.

    Keys that it lacks have today's defaults and are named in the log; a key that is gone is an
    error that names its successor (`fluxjax.config.names.SYNONYMS`).

    Raises:
      OSError: if there is no such file.
      ValueError: if it is not such a file, or its keys or types are not those of this fluxjax.
    """
    lacking: list[str] = []
    try:
        stored = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        config = _whole(stored, "config", lacking)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be used as a config: {error}") from error
    if lacking:
        log.warning("%s is of an earlier version and has no %s: today's defaults apply",
                    path, ", ".join(lacking))  # fmt: skip
    return config


def as_flag_value(path: str) -> str:
    """What `--config` must be given for a path; a .json file is read through this module."""
    path = os.path.expanduser(path)
    return f"{__file__}:{path}" if path.endswith(".json") else path


def _whole(stored: Any, path: str, lacking: list[str]) -> ConfigDict:
    """A config of the stored values; which fields its model has, depends on the model."""
    given = stored if isinstance(stored, dict) else {}
    import_modules(given.get("imports", ()))
    model = given.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if given and not isinstance(name, str):
        raise ValueError(f"{path}.model.name is missing: a model cannot be assumed")
    task = given.get("task")
    config = base_config(
        name if isinstance(name, str) else "fluxvit_ti14",
        task if isinstance(task, str) else "classify",
    )
    _fill(config, stored, path, "", config, lacking)
    return config


def _fill(
    config: ConfigDict, stored: Any, path: str, section: str, whole: ConfigDict, lacking: list[str]
) -> None:
    """Puts the stored values into a section of the defaults `whole`, and notes what they lack."""
    if not isinstance(stored, dict):
        raise ValueError(f"{path} must be an object, not {type(stored).__name__}")
    for key in stored:
        if key not in config:
            raise ValueError(unknown_key(f"{section}{key}", whole))
    for key in list(config):
        name = f"{path}.{key}"
        if key not in stored:
            lacking.append(name)
            continue
        if isinstance(config[key], ConfigDict):
            _fill(config[key], stored[key], name, f"{section}{key}.", whole, lacking)
            continue
        kind, value = config.get_type(key), _tuples(stored[key])
        if kind is ConfigDict and value is not None:
            config[key] = _whole(value, name, lacking)
            continue
        if isinstance(value, bool) != (kind is bool) and value is not None:
            raise ValueError(f"{name}={value!r} must be of type {kind.__name__}")
        try:
            config[key] = value
        except TypeError as error:
            raise ValueError(f"{name}={value!r} must be of type {kind.__name__}") from error


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
