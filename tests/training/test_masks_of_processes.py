"""A video's mask and a run's bits: one process or two, other batches, after a kill."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from tests.tiny_run import write_videos
from tests.training.masks_worker import VIDEOS
from tests.training.test_multihost import ROOT, environment, free_port

STEPS = 5


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("masks") / "videos", VIDEOS)


def start(videos, workdir, *options, devices=1):
    command = [
        sys.executable, "-m", "tests.training.masks_worker", "--config=tests/tiny.py:videomae",
        f"--workdir={workdir}", f"--config.data.train={videos}", "--config.data.test=",
        f"--config.data.root={videos.parent}", f"--config.total_steps={STEPS}",
        "--config.checkpoint.every_steps=1", *options,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), stderr=subprocess.PIPE, text=True
    )


def finished(*processes):
    logs = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), logs
    return logs[0]


def masks(workdir):
    """[steps, videos], the number of every video's mask at every step, 1 to the last."""
    rows = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    found = {row["step"]: [row[f"train/mask_{i}"] for i in range(VIDEOS)] for row in rows
             if "train/mask_0" in row}  # fmt: skip
    return np.array([found[step] for step in range(1, STEPS + 1)])


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """One process whose batches hold each video once."""
    folder = tmp_path_factory.mktemp("whole")
    finished(start(videos, folder))
    drawn = masks(folder)
    assert len(np.unique(drawn)) > STEPS * VIDEOS // 2, "videos and steps differ in their masks"
    return folder, drawn


@pytest.mark.slow
def test_two_processes_and_another_batch_size_draw_the_same_masks(whole, videos, tmp_path):
    joined = (f"--coordinator=localhost:{free_port()}", "--num_processes=2")
    larger = ("--config.batch_size=16", *joined)
    finished(*(start(videos, tmp_path, *larger, f"--process_id={i}") for i in range(2)))
    np.testing.assert_array_equal(masks(tmp_path), whole[1])


@pytest.mark.slow
def test_after_a_kill_come_the_same_masks_and_the_same_bits(whole, videos, tmp_path):
    process = start(videos, tmp_path)
    for line in process.stderr:
        if "step 3/" in line:
            process.kill()
            break
    process.communicate()
    assert process.returncode < 0 and not (tmp_path / "model").exists()
    assert "resuming at step" in finished(start(videos, tmp_path))
    np.testing.assert_array_equal(masks(tmp_path), whole[1])
    ours, theirs = (fluxjax.load(folder / "model")[1] for folder in (tmp_path, whole[0]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
