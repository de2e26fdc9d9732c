import subprocess
import sys

from fluxjax.config.key_help import key_help, meanings
from fluxjax.config.keys import base_config
from fluxjax.config.names import all_keys


def test_every_key_has_its_default_and_its_comment():
    lines = key_help().splitlines()
    for key in all_keys(base_config()):
        assert any(line.split()[0] == f"config.{key}" for line in lines if line[:1] != " "), key
    text = " ".join(" ".join(lines).split())
    assert "config.batch_size = 16 clips a step, over all devices and hosts" in text
    assert "config.jitter.hue = 0.0 e.g. 0.4; the largest change" in text
    assert "config.pretrain = None A whole config, trained first; this run then starts" in text
    assert max(map(len, lines)) <= 100


def test_a_recipe_has_its_own_values():
    for recipe, value in (("fluxvit_ti", "(48, 24, 12)"), ("tests/tiny.py", "(8, 4)")):
        options = ["--config", recipe, "--config.batch_size=6", "--config_help"]
        command = [sys.executable, "-m", "fluxjax.main", *options]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        said = " ".join(result.stdout.split())
        assert f"config.budgets = {value}" in said
        assert "config.batch_size = 6 clips a step" in said


def test_comments_belong_to_keys_that_there_are():
    keys = all_keys(base_config())
    for key in meanings():
        assert key.removesuffix(".*") in keys, key
