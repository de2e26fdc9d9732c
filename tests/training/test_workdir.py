"""What a resumed run may change, and that a refused one has changed nothing."""

import logging

import jax
import pytest

from fluxjax.checkpoints import manifest
from fluxjax.config import resume
from fluxjax.config import stored as stored_config
from fluxjax.config.keys import base_config
from fluxjax.config.names import all_keys
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.workdir import check_folder, check_resume
from tests import tiny


@pytest.fixture(scope="module")
def state():
    return Trainer.create(create_task(tiny.get_config())).abstract_state


def begun(workdir, config, state, step=4):
    """A workdir as a run leaves it that was stopped after `step` of its 6 steps."""
    folder = workdir / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    manifest.write(folder, state, step=step, config=config.to_dict())
    stored_config.write(config, workdir / "config.json")
    return workdir


def changed(config, key, value):
    *path, last = key.split(".")
    section = config
    for name in path:
        section = section[name]
    section[last] = value
    return config


REFUSED = [
    ("seed", 1, "config.seed=1 (was 0)"),
    ("batch_size", 16, "config.batch_size=16 (was 8)"),
    ("model.width", 32, "config.model.width=32 (was 16)"),
    ("model.dtype", "bfloat16", "config.model.dtype='bfloat16' (was 'float32')"),
    ("data.train", "b.txt", "config.data.train='b.txt' (was 'demo:easy')"),
    ("data.repeats", 2, "config.data.repeats=2 (was 1)"),
    ("grids.frames", (2, 4), "config.grids.frames=(2, 4) (was (2, 3, 4))"),
    ("mixing.prob", 1.0, "config.mixing.prob=1.0 (was 0.0)"),
    ("optim.accumulate_steps", 2, "config.optim.accumulate_steps=2 (was 1)"),
    ("num_classes", 5, "config.num_classes=5 (was 4)"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_makes_it_another_run_is_refused(tmp_path, state, key, value, message):
    begun(tmp_path, tiny.get_config(), state)
    with pytest.raises(ValueError) as error:
        check_resume(tmp_path, changed(tiny.get_config(), key, value), state)
    text = str(error.value)
    assert message in text and "another --workdir" in text
    assert f"--config={tmp_path / 'config.json'}" in text
    assert ("only a path" in text) == (key == "data.train")


@pytest.mark.parametrize(
    ("key", "value"),
    [("optim.lr", 0.5), ("total_steps", 8), ("log_every", 5), ("data.workers", 7),
     ("eval.grids", ("4x28",)), ("mesh.fsdp", 2), ("data.root", "/elsewhere")],
)  # fmt: skip
def test_what_may_change_is_said(tmp_path, state, key, value, caplog):
    caplog.set_level(logging.INFO)
    begun(tmp_path, tiny.get_config(), state)
    check_resume(tmp_path, tiny.get_config(), state)
    assert not caplog.messages
    check_resume(tmp_path, changed(tiny.get_config(), key, value), state)
    (message,) = caplog.messages
    assert f"going on with config.{key}={value!r} (was " in message


def test_folders_as_users_write_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_folder("~/x") == tmp_path / "x"
    (tmp_path / "file").touch()
    for path, message in (("~/file", "is a file"), ("s3://bucket/x", "s3://bucket/x is remote")):
        with pytest.raises(ValueError, match=message):
            check_folder(path)


def test_a_finished_run_only_changes_what_nothing_was_learnt_from(tmp_path, state):
    begun(tmp_path, tiny.get_config(), state, step=6)
    check_resume(tmp_path, changed(tiny.get_config(), "eval.clips", 3), state)
    with pytest.raises(ValueError, match="holds a finished run, .*config.optim.lr=0.5"):
        check_resume(tmp_path, changed(tiny.get_config(), "optim.lr", 0.5), state)
    longer = changed(tiny.get_config(), "optim.lr", 0.5)
    check_resume(tmp_path, changed(longer, "total_steps", 8), state)


def test_a_run_that_saved_nothing_may_begin_anew(tmp_path, state):
    stored_config.write(tiny.get_config(), tmp_path / "config.json")
    check_resume(tmp_path, changed(tiny.get_config(), "seed", 1), state)


def test_the_run_before_is_compared_too(tmp_path, state):
    config = tiny.get_config("evl")
    begun(tmp_path / "pretrain", config.pretrain, state)
    (tmp_path / "pretrain" / "model").mkdir()
    check_resume(tmp_path, config, state)
    check_resume(tmp_path, changed(config, "pretrain.log_every", 9), state)
    with pytest.raises(ValueError, match=r"pretrain holds a finished run.*seed=7 \(was 0\)"):
        check_resume(tmp_path, changed(config, "pretrain.seed", 7), state)


def test_a_change_of_the_run_before_is_no_change_of_its_kind(tmp_path, state):
    begun(tmp_path, tiny.get_config("evl"), state)
    config = changed(tiny.get_config("evl"), "pretrain.optim.lr", 0.5)
    with pytest.raises(ValueError, match="config.pretrain.optim.lr=0.5"):
        check_resume(tmp_path, changed(config, "total_steps", 9), state)


def test_a_tree_that_does_not_fit_is_refused(tmp_path, state):
    begun(tmp_path, tiny.get_config(), state)
    (tmp_path / "config.json").unlink()
    config = changed(tiny.get_config(), "optim.ema", 0.9)
    other = Trainer.create(create_task(config)).abstract_state
    with pytest.raises(ValueError, match="ema/.* is not stored"):
        check_resume(tmp_path, config, other)


def test_the_tables_name_keys_that_there_are():
    keys = all_keys(base_config())
    for pattern in (*resume.HARMLESS, *resume.FROM_NOW_ON):
        assert pattern.removesuffix(".*") in keys, pattern


@pytest.mark.parametrize(
    ("ema", "warmup", "step", "share"),
    [(0.9999, True, 0, None), (0.9999, False, 0, "100 %"), (0.9, False, 0, "53 %"),
     (0.5, False, 0, None), (0.9999, True, 4, None), (0.9999, "older", 4, "14 %")],
)  # fmt: skip
def test_an_average_that_stays_where_it_began_is_warned_of(
    tmp_path, state, caplog, ema, warmup, step, share
):
    # After six updates. Without warm-up in the first four: 0.9999^4 (5 / 14) (6 / 15).
    config = tiny.get_config()
    config.optim.ema, config.optim.ema_warmup = ema, bool(warmup)
    if step:
        state = jax.eval_shape(lambda: {"a": jax.numpy.zeros(3)})
        begun(tmp_path, config, state, step)
        if warmup == "older":
            record = manifest.read(tmp_path / "checkpoints" / "4")
            del record["config"]["optim"]["ema_warmup"]
            manifest.write(tmp_path / "checkpoints" / "4", state, step=4, config=record["config"])
    check_resume(tmp_path, config, state)
    assert [f"{share} of the initial" in m for m in caplog.messages] == ([True] if share else [])
