"""What earlier versions have written still loads, resumes and repeats: see data/README.md."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.inference import read_architecture
from fluxjax.checkpoints.training import Checkpoints
from fluxjax.config import stored as stored_config
from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import make_mesh
from tests import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
STATE = "6ced362695b4c2df815d3f1bfb2be534124ca20600089efd89dae6b0cbce824e"
MODEL = "74576f9c4179981a0fe34c4055140dea658cebd45604bbb6922dcdffc84ec4f8"


def digest(tree):
    """Of the names, types and bytes of all arrays, whatever holds them."""
    found = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}
    for name, x in sorted(named.items()):
        found.update(f"{name} {x.dtype} {x.shape}".encode() + np.asarray(x).tobytes())
    return found.hexdigest()


@pytest.fixture
def released(tmp_path):
    with tarfile.open(pathlib.Path(__file__).parent / "data" / "released_runs.tar.xz") as runs:
        runs.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_finished_runs_model_loads(released):
    model, variables = fluxjax.load(released / "finished" / "model")
    assert (model.patch, model.num_classes, model.budgets) == (7, 4, (8, 4))
    assert digest(variables) == MODEL
    assert read_architecture(released / "finished" / "model").version == "0.1.0"
    assert digest(jax.tree.map(lambda x: x + 0.001, variables)) != MODEL


def test_a_stopped_runs_config_and_state_are_restored_bit_for_bit(released):
    config = stored_config.get_config(str(released / "stopped" / "config.json"))
    check_config(config)
    trainer = Trainer.create(create_task(config), make_mesh(config.mesh))
    with Checkpoints(released / "stopped", 1) as checkpoints:
        state = checkpoints.restore_newest(trainer.abstract_state)
    assert int(state.step) == 4
    assert digest(state) == STATE


@pytest.mark.slow
def test_a_stopped_run_resumes_and_ends(released):
    tiny_run.write_videos(released / "videos", 8)
    command = [sys.executable, "-m", "fluxjax.main", "--workdir=stopped",
               "--config=stopped/config.json"]  # fmt: skip
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=released, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert "resuming at step 4" in result.stderr
    losses = re.findall(r"step (\d)/6 \| loss ([\d.]+)", result.stderr)
    assert [step for step, _ in losses] == ["5", "6"]
    assert all(0 < float(loss) < 5 for _, loss in losses)
    assert fluxjax.load(released / "stopped" / "model")[0].num_classes == 4
