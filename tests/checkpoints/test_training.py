"""Checkpoints are verified before they are used, and a bad one costs no more than its steps."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.checkpoints import manifest
from fluxjax.checkpoints.training import CheckpointError, Checkpoints

FLIPS = int(os.environ.get("FLUXJAX_BIT_FLIPS", "30"))
ROOT = pathlib.Path(__file__).parents[2]


def state(step, **changes):
    tree = {
        "step": jnp.int32(step),
        "params": {"kernel": jnp.arange(6.0).reshape(2, 3) + step, "bias": jnp.ones(3)},
        "counts": (jnp.zeros(2, jnp.int32),),
    }
    return tree | changes


def saved(workdir, steps=(2, 4), keep=2):
    with Checkpoints(workdir, keep, {"seed": 3}) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))
    return workdir / "checkpoints"


def restored(workdir, expected=None):
    """The step that is restored, after a check of the arrays; None without any."""
    with Checkpoints(workdir, 2) as checkpoints:
        tree = checkpoints.restore_newest(state(0) if expected is None else expected)
    if tree is None:
        return None
    jax.tree.map(np.testing.assert_array_equal, tree, state(int(tree["step"])))
    return int(tree["step"])


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(data))


def test_the_newest_is_restored_and_only_so_many_kept(tmp_path):
    folder = saved(tmp_path, steps=(1, 2, 3), keep=2)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    assert restored(tmp_path) == 3
    assert restored(tmp_path / "empty") is None


def test_a_manifest_says_what_is_stored(tmp_path):
    record = json.loads((saved(tmp_path) / "4" / "manifest.json").read_text())
    assert record["tree"]["params/kernel"] == ["float32", [2, 3]]
    assert record["config"] == {"seed": 3} and record["step"] == 4
    assert {"jax", "fluxjax", "orbax-checkpoint", "python"} <= record["versions"].keys()
    names = {str(path.relative_to(tmp_path / "checkpoints" / "4")) for path in
             files(tmp_path / "checkpoints" / "4")}  # fmt: skip
    assert names == {*record["files"], "manifest.json", "manifest.json.sha256"}


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    folder = saved(tmp_path) / "4"
    rng = np.random.default_rng(0)
    tried, paths = 0, [path for path in files(folder) if path.stat().st_size]
    for path in paths:
        whole = path.read_bytes()
        for _ in range(-(-FLIPS // len(paths))):
            flip(path, int(rng.integers(8 * len(whole))))
            with pytest.raises(manifest.DamagedError, match=path.name):
                manifest.verify(folder)
            path.write_bytes(whole)
            tried += 1
    manifest.verify(folder)
    print(f"{tried} flipped bits in {len(paths)} files, all found and named")


def wreck_flip(folder):
    largest = max(files(folder / "state"), key=lambda path: path.stat().st_size)
    flip(largest, 4 * largest.stat().st_size)


def wreck_truncate(folder):
    largest = max(files(folder / "state"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def wreck_missing(folder):
    max(files(folder / "state"), key=lambda path: path.stat().st_size).unlink()


def wreck_manifest(folder):
    (folder / "manifest.json").unlink()


def wreck_surplus(folder):
    (folder / "state" / "more").write_bytes(b"")


def wreck_all(folder):
    shutil.rmtree(folder)
    folder.mkdir()


WRECKS = [wreck_flip, wreck_truncate, wreck_missing, wreck_manifest, wreck_surplus, wreck_all]


@pytest.mark.parametrize("wreck", WRECKS)
def test_a_damaged_checkpoint_is_passed_over_loudly(tmp_path, caplog, wreck):
    folder = saved(tmp_path)
    wreck(folder / "4")
    assert restored(tmp_path) == 2
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and "checkpoints/4" in errors[0].message
    assert sorted(path.name for path in folder.iterdir()) == ["2", "damaged-4"]
    saved(tmp_path, steps=(4,))  # its number is free again
    assert restored(tmp_path) == 4


def test_nothing_is_trained_anew_where_all_checkpoints_are_damaged(tmp_path):
    folder = saved(tmp_path)
    for step in ("2", "4"):
        wreck_truncate(folder / step)
    with pytest.raises(CheckpointError, match="no checkpoint in .* is whole") as error:
        restored(tmp_path)
    assert "checkpoints/2" in str(error.value) and "checkpoints/4" in str(error.value)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": (jnp.zeros(2, jnp.float32),)}, r"counts/0 is stored as int32\[2\], "),
        ({"params": {"kernel": jnp.zeros((3, 2)), "bias": jnp.ones(3)}},
         r"params/kernel is stored as float32\[2, 3\], expected float32\[3, 2\]"),
        ({"params": {"kernle": jnp.zeros((2, 3)), "bias": jnp.ones(3)}},
         r"params/kernle is not stored \(nearest: params/kernel\)"),
        ({"params": {"kernel": jnp.zeros((2, 3))}}, "params/bias is stored but not expected"),
    ],
)  # fmt: skip
def test_names_shapes_and_dtypes_are_strict(tmp_path, change, message):
    saved(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        restored(tmp_path, state(0, **change))
    assert "another --workdir" in str(error.value)


def test_what_a_killed_run_left_is_removed_and_logged(tmp_path, caplog):
    folder = saved(tmp_path)
    shutil.copytree(folder / "4", folder / "saving-6")
    assert restored(tmp_path) == 4
    assert "saving-6" in caplog.text and not (folder / "saving-6").exists()


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    """A limit on the size of files stands for the full disk: writes fail, as there."""
    saved(tmp_path, steps=(2,))
    script = """
import resource, signal, sys
import jax.numpy as jnp
from fluxjax.checkpoints.training import CheckpointError, Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoints = Checkpoints(sys.argv[1], keep=1)
big = {"kernel": jnp.arange(1 << 16) * 7919 % 65521}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoints.save(4, big)
    checkpoints.wait()
except CheckpointError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"}, timeout=300,
    )  # fmt: skip
    assert "the checkpoint of step 4 cannot be written to" in result.stdout, result.stderr[-2000:]
    assert "Older checkpoints, untouched: 2" in result.stdout
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert restored(tmp_path) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX users")
def test_a_read_only_folder_is_a_clear_error(tmp_path, monkeypatch):
    folder = saved(tmp_path)
    with Checkpoints(tmp_path, 2) as checkpoints:

        def refuse(self, *args, **kwargs):  # root may write anywhere, so the call is replaced
            raise OSError(30, "Read-only file system", str(self))

        monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
        with pytest.raises(CheckpointError, match=r"(?s)step 6 .*Read-only.*untouched: 4, 2"):
            checkpoints.save(6, state(6))
    monkeypatch.undo()
    assert sorted(path.name for path in folder.iterdir()) == ["2", "4"]


@pytest.mark.slow
def test_other_devices_restore_the_same_numbers(tmp_path):
    def mesh(count):
        return jax.sharding.Mesh(np.array(jax.devices()[:count]), ("data",))

    def placed(count):
        spec = jax.sharding.PartitionSpec
        rows = jax.sharding.NamedSharding(mesh(count), spec("data"))
        whole = jax.sharding.NamedSharding(mesh(count), spec())
        return {
            "cut": jax.device_put(jnp.arange(24.0).reshape(8, 3), rows),
            "whole": jax.device_put(jnp.arange(5.0), whole),
        }

    for saving, restoring in ((8, 2), (1, 4)):
        workdir = tmp_path / str(saving)
        with Checkpoints(workdir, 1) as checkpoints:
            checkpoints.save(1, placed(saving))
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), placed(restoring)
        )
        with Checkpoints(workdir, 1) as checkpoints:
            tree = checkpoints.restore_newest(abstract)
        for name, value in placed(restoring).items():
            np.testing.assert_array_equal(tree[name], value)
            assert tree[name].sharding.device_set == value.sharding.device_set
