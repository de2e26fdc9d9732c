import pytest

from fluxjax.config.keys import base_config
from fluxjax.config.names import all_keys
from fluxjax.config.paths import LOCAL, SOURCES, expand_paths


def test_home_is_expanded_in_every_path_of_a_config(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = base_config()
    config.data.train, config.data.test, config.data.dir = "~/a.txt", "demo:easy", "~/cache"
    config.data.root, config.data.manifests = "~", ("~/a.jsonl", "/b.jsonl")
    config.init_from, config.features.dir, config.compile_cache = "~/m", "~/f", "gs://cache/x"
    config.pretrain = base_config()
    config.pretrain.init_from = "~/clip"
    expand_paths(config)
    data = config.data
    assert (data.train, data.test, data.dir) == ("/home/me/a.txt", "demo:easy", "/home/me/cache")
    assert (data.root, data.manifests) == ("/home/me", ("/home/me/a.jsonl", "/b.jsonl"))
    assert (config.init_from, config.features.dir) == ("/home/me/m", "/home/me/f")
    assert config.compile_cache == "gs://cache/x"
    assert config.pretrain.init_from == "/home/me/clip"


@pytest.mark.parametrize("key", ["init_from", "features.dir"])
def test_a_remote_address_where_files_are_needed_is_refused(key):
    config = base_config()
    section, _, field = key.rpartition(".")
    (config[section] if section else config)[field] = "gs://bucket/x"
    with pytest.raises(ValueError, match=f"config.{key}: gs://bucket/x is remote"):
        expand_paths(config)


def test_the_keys_are_there():
    assert {*SOURCES, *LOCAL} <= set(all_keys(base_config()))
