"""log.jsonl and Weights & Biases: whole lines, no step twice, one error before anything starts."""

import json
import math
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.config.keys import base_config
from fluxjax.training.log_files import LogFile
from fluxjax.training.metric_writers import WANDB_ID, Writers, check_wandb


def records(path):
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def steps(path):
    return [(record["step"], *sorted(record.keys() - {"step", "time"})) for record in records(path)]


def written(path, *lines):
    log = LogFile(path)
    for step, name in lines:
        log.write_scalars(step, {name: step / 2})
    return log


def test_a_line_has_step_time_and_every_scalar(tmp_path):
    log = LogFile(tmp_path / "log.jsonl")
    log.write_scalars(20, {"train/loss": jnp.float32(1.5), "train/lr": np.float64(1e-3), "n": 3})
    log.write_scalars(np.int64(40), {"a": math.nan, "b": jnp.inf, "c": -math.inf, "d": 0})
    one, two = records(tmp_path / "log.jsonl")
    assert abs(one.pop("time") - two.pop("time")) < 60 and one["step"] == 20
    assert one == {"step": 20, "train/loss": 1.5, "train/lr": 1e-3, "n": 3.0}
    assert two == {"step": 40, "a": None, "b": None, "c": None, "d": 0.0}


@pytest.mark.parametrize(
    "torn",
    ['{"step": 60, "time": 1, "train/lo', "\0\0\0\0", '{"time": 3}', "[60]", '"step"', "é"],
)
def test_a_torn_line_is_dropped_and_the_next_is_whole(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    written(path, (20, "x"), (40, "x"))
    with path.open("a", encoding="latin-1") as file:
        file.write(torn)
    written(path, (60, "x"))
    assert steps(path) == [(20, "x"), (40, "x"), (60, "x")]


def test_a_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, (20, "x"))
    path.write_text(path.read_text().rstrip("\n"))
    written(path, (40, "x"))
    assert steps(path) == [(20, "x"), (40, "x")]


@pytest.mark.parametrize(
    ("resumed", "left"),
    [
        (40, [(20, "x"), (40, "x"), (40, "eval/top1")]),
        (30, [(20, "x")]),
        (0, []),
        (100, [(20, "x"), (40, "x"), (40, "eval/top1"), (60, "x")]),
    ],
)
def test_a_resumed_run_drops_what_comes_again(tmp_path, resumed, left):
    path = tmp_path / "log.jsonl"
    written(path, (20, "x"), (40, "x"), (40, "eval/top1"), (60, "x"))
    LogFile(path).begin(resumed)
    assert steps(path) == left


def test_an_evaluation_that_is_made_again_replaces_its_line(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, (20, "x"), (20, "eval/top1"))
    LogFile(path).write_scalars(20, {"eval/top1": 0.25})
    assert steps(path) == [(20, "x"), (20, "eval/top1")]
    assert records(path)[1]["eval/top1"] == 0.25


class Stub(types.ModuleType):
    """What of wandb is used, remembering what it is told."""

    class Error(Exception):
        pass

    def __init__(self, fails=False):
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace(name="wandb")
        self.begun, self.told, self.finished, self.fails = [], [], 0, fails

    def init(self, **options):
        if self.fails:
            raise self.Error("api_key not configured (no-tty)")
        self.begun.append(options)
        return self

    def log(self, scalars, step):
        self.told.append((step, scalars))

    def finish(self):
        self.finished += 1


@pytest.fixture
def stub(monkeypatch):
    module = Stub()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def config_for(project):
    config = base_config()
    config.wandb = project
    return config


def test_wandb_is_told_what_the_files_are_and_resumes_its_run(tmp_path, stub):
    config = config_for("videos")
    check_wandb(config)
    for step in (20, 40):
        writers = Writers(tmp_path, config, first=True)
        writers.begin(step - 20)
        writers.write_scalars(step, {"train/loss": jnp.float32(0.5)})
        writers.close()
    assert stub.told == [(20, {"train/loss": 0.5}), (40, {"train/loss": 0.5})]
    assert type(stub.told[0][1]["train/loss"]) is float and stub.finished == 2
    one, two = stub.begun
    assert one == two and one["project"] == "videos" and one["resume"] == "allow"
    assert one["id"] == (tmp_path / WANDB_ID).read_text().strip() and len(one["id"]) == 16
    assert one["config"]["batch_size"] == config.batch_size
    assert steps(tmp_path / "log.jsonl") == [(20, "train/loss"), (40, "train/loss")]
    assert any(tmp_path.glob("events.out.tfevents.*"))


def test_other_processes_and_other_configs_tell_wandb_nothing(tmp_path, stub):
    for config, first in (config_for("videos"), False), (config_for(""), True):
        writers = Writers(tmp_path, config, first)
        writers.begin(0)
        writers.write_scalars(20, {"train/loss": 1.0})
        writers.close()
        assert (tmp_path / "log.jsonl").exists() is first
    assert not stub.begun and not (tmp_path / WANDB_ID).exists()


def test_without_the_package_there_is_one_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"config.wandb='videos' needs .*'fluxjax\[wandb\]'"):
        check_wandb(config_for("videos"))
    outer = config_for("")
    outer.pretrain = config_for("inner")
    with pytest.raises(ValueError, match="config.wandb='inner'"):
        check_wandb(outer)
    check_wandb(config_for(""))


def test_a_refusal_of_wandb_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Stub(fails=True))
    with pytest.raises(ValueError, match="no-tty.; run `wandb login`, or set WANDB_MODE=offline"):
        Writers(tmp_path, config_for("videos"), first=True)
