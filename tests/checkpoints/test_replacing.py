"""A folder that is replaced is whole at every moment, SIGKILL inside included."""

import pathlib
import signal
import subprocess
import sys

import pytest

from fluxjax.checkpoints.replacing import recover, replaced

# Kills itself before a rename of the second replacement, or while it is being written.
KILLED = """
import os, pathlib, signal, sys
from fluxjax.checkpoints.replacing import replaced
folder, at = pathlib.Path(sys.argv[1]), int(sys.argv[2])
with replaced(folder) as new:
    (new / "value").write_text("first")
rename, count = pathlib.Path.rename, 0
def killing(path, target):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
pathlib.Path.rename = killing
with replaced(folder) as new:
    (new / "half").write_text("x")
    if at == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    (new / "half").unlink()
    (new / "value").write_text("second")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("at", "value"), [(0, "first"), (1, "first"), (2, "second")])
def test_a_kill_leaves_one_of_the_two(tmp_path, at, value):
    folder = tmp_path / "best"
    result = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(at)],
                            cwd=pathlib.Path(__file__).parents[2], timeout=300)  # fmt: skip
    assert result.returncode == -signal.SIGKILL
    recover(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"best"}, "something is left over"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"value": value}


def test_what_fails_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "value").write_text("first")
    with pytest.raises(KeyError), replaced(folder):
        raise KeyError
    rename = pathlib.Path.rename

    def refused(path, target):
        if path.name == "new":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", refused)
    with pytest.raises(OSError, match="no"), replaced(folder):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (folder / "value").read_text() == "first"
