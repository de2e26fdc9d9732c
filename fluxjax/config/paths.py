"""The keys of a config that are paths, as users write them."""

import os

from ml_collections import ConfigDict

from fluxjax.checkpoints.paths import local_path
from fluxjax.config.ranges import get

SOURCES = ("data.train", "data.test", "data.dir", "data.root", "compile_cache")  # maybe remote
LOCAL = ("init_from", "features.dir", "data.cache")


def expand_paths(config: ConfigDict) -> None:
    """Expands ~ in every key that is a path, also those of `config.pretrain`.

    Raises:
      ValueError: for a remote address in the place of a local path, naming the key.
    """
    for key in (*SOURCES, *LOCAL):
        if (value := get(config, key)) is None or (key, value) == ("data.cache", ""):  # off
            continue
        section, _, field = key.rpartition(".")
        try:
            value = local_path(value) if key in LOCAL else os.path.expanduser(value)
        except ValueError as error:
            raise ValueError(f"config.{key}: {error}") from error
        (get(config, section) if section else config)[field] = value
    config.data.manifests = tuple(map(os.path.expanduser, config.data.manifests))
    if config.pretrain is not None:
        expand_paths(config.pretrain)
