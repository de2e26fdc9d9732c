"""Two real processes on this machine, joined through jax.distributed and gloo."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.inference import read_architecture
from fluxjax.training import hosts
from tests.data_pipelines import video_files

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 4


@pytest.fixture(scope="module")
def video_list(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    lines = []
    for number in range(11):  # the last test batch is not full, and halves differ
        video_files.write_video(folder / f"{number}.mp4", frames=12 + number)
        lines.append(f"{number}.mp4 {number % 4}")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"


def environment(devices):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}


def start(video_list, workdir, devices, *options):
    command = [
        sys.executable, "-m", "tests.training.multihost_worker", "--config", "tests/tiny.py",
        f"--workdir={workdir}", f"--config.data.train={video_list}", "--config.optim.ema=0.9",
        f"--config.data.test={video_list}", f"--config.data.root={video_list.parent}",
        f"--config.total_steps={STEPS}", "--config.checkpoint.every_steps=1",
        "--config.eval.every_steps=2", "--config.checkpoint.best=top1_8@4x28", *options,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), stderr=subprocess.PIPE, text=True
    )


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start_two(video_list, workdir, *options):
    joined = [f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    return [start(video_list, workdir, 1, *joined, f"--process_id={i}", *options) for i in range(2)]


def losses(log):
    return re.findall(r"step (\d)/\d \| loss ([\d.]+)", log)


def decoded(log):
    return int(re.search(r"decoded (\d+)", log)[1])


@pytest.fixture(scope="module")
def alone(video_list, tmp_path_factory):
    """One process with two devices."""
    folder = tmp_path_factory.mktemp("alone")
    process = start(video_list, folder, 2)
    log = process.communicate(timeout=300)[1]
    assert process.returncode == 0, log
    return folder, log


def assert_same_run(folder, log, expected):
    assert losses(log)[-1:] == losses(expected[1])[-1:]
    a, b = (fluxjax.load(path / "model")[1] for path in (folder, expected[0]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)
    assert (folder / "evaluation.csv").read_text().split(",")[:5] == (
        expected[0] / "evaluation.csv").read_text().split(",")[:5]  # fmt: skip


def assert_same_best(run, expected):
    """The first process chose for all: `best` is of the step that one process chooses."""
    ours, theirs = (read_architecture(folder / "best") for folder in (run, expected))
    assert ours.step == theirs.step and ours.scores == pytest.approx(theirs.scores)


def assert_evaluated_again(run, video_list):
    """`fluxjax.evaluate` on two processes gives the figures of the run's own table."""
    port = free_port()
    both = [
        subprocess.Popen(
            [
                sys.executable, "-m", "fluxjax.evaluate", f"--checkpoint={run}",
                f"--output={run / 'again'}", f"--coordinator=localhost:{port}",
                "--num_processes=2", f"--process_id={i}",
            ],
            cwd=ROOT, env=environment(1), stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    logs = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    tables = [json.loads((f / "evaluation.json").read_text()) for f in (run, run / "again")]
    for table in tables:
        for row in table["rows"]:
            row.pop("clips_per_second")
    assert tables[0]["rows"] == tables[1]["rows"] and len(tables[0]["rows"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--config.mesh.fsdp=2",)], ids=["data", "fsdp"])
def test_two_processes_compute_what_one_does(alone, video_list, tmp_path, options):
    both = start_two(video_list, tmp_path, *options)
    logs = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    assert len(losses(logs[0])) == STEPS and losses(logs[0]) == losses(alone[1])
    assert not losses(logs[1]), "progress is the first process's to tell"
    assert_same_run(tmp_path, logs[0], alone)
    assert_same_best(tmp_path, alone[0])
    assert_evaluated_again(tmp_path, video_list)
    # Each decodes its part; the last, uneven test batches are the first process's.
    parts = [decoded(log) for log in logs]
    assert sum(parts) <= decoded(alone[1]) + 2 and max(parts) < 0.6 * sum(parts)


@pytest.mark.slow
def test_one_killed_ends_the_other_and_both_resume(alone, video_list, tmp_path):
    both = start_two(video_list, tmp_path)
    for line in both[0].stderr:
        if "step 3/" in line:  # before it, step 2 was saved, once step 1 was on the disk
            both[1].kill()
            break
    rest = both[0].communicate(timeout=90)[1]  # raises where it outlives its heartbeats
    both[1].communicate()
    assert both[0].returncode != 0, rest
    again = start_two(video_list, tmp_path)
    logs = [process.communicate(timeout=300)[1] for process in again]
    assert [process.returncode for process in again] == [0, 0], logs
    assert "resuming at step" in logs[0]
    assert_same_run(tmp_path, logs[0], alone)


def test_half_given_addresses_are_an_error():
    with pytest.raises(ValueError, match="--process_id must be given too"):
        hosts.start("auto", "localhost:1234", 2)
    hosts.start("off")
    assert not jax.distributed.is_initialized()


def started_alone(environment):
    program = """
import logging
logging.basicConfig(level=logging.INFO)
from fluxjax.training import hosts
hosts.start(seconds=3)
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
    )  # fmt: skip


def test_a_process_that_comes_alone_says_whom_it_awaits_and_gives_up():
    """Under srun for two, of which the other never starts."""
    result = started_alone({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2",
                            "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
                            "SLURM_STEP_NODELIST": "localhost"})  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "waiting up to 3 s for the 2 processes of this srun" in result.stderr
    assert "the 2 processes of this srun did not all come within 3 s" in result.stderr
    assert "--distributed=off" in result.stderr


def test_what_jax_cannot_detect_is_said_with_the_remedy():
    pod = {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2", "TPU_WORKER_ID": "0"}  # on no TPU machine
    result = started_alone(pod)
    assert "ValueError: JAX cannot find the 2 hosts of this TPU pod" in result.stderr
    assert "give --coordinator" in result.stderr
