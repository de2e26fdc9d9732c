"""One run a workdir."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from fluxjax.training.lock import WorkdirInUseError, locked

ROOT = pathlib.Path(__file__).parents[2]

HOLD = """
import sys, time
from fluxjax.training.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_is_refused_and_a_dead_ones_lock_taken_over(tmp_path, caplog):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WorkdirInUseError) as error, locked(tmp_path):
        pytest.fail("two runs hold one workdir")
    for part in (f"pid {holder.pid}", os.uname().nodename, str(tmp_path), "--workdir"):
        assert part in str(error.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        assert f"pid {holder.pid}" in caplog.text and "takes over" in caplog.text
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    caplog.clear()
    with locked(tmp_path):
        assert not caplog.text, "an orderly end left a stale lock"


def test_the_lock_is_given_back_when_the_run_fails(tmp_path, caplog):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        assert not caplog.text


def test_an_unreadable_lock_file_is_stale(tmp_path, caplog):
    (tmp_path / "lock.json").write_bytes(b"\xff{nonsense")
    with locked(tmp_path):
        assert "nonsense" in caplog.text
