"""The command as users run it, on a handful of small videos."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import fluxjax
from fluxjax.training import signals
from tests.data_pipelines import video_files

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def video_list(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    lines = []
    for number in range(12):
        video_files.write_video(folder / f"{number}.mp4", frames=12 + number)
        lines.append(f"{number}.mp4 {number % 4}")
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"


def command(video_list, workdir, *options):
    return [
        sys.executable, "-m", "fluxjax.main", "--config", "tests/tiny.py",
        f"--workdir={workdir}", f"--config.data.train={video_list}",
        f"--config.data.test={video_list}", f"--config.data.root={video_list.parent}", *options,
    ]  # fmt: skip


def repeat(config, workdir):
    return [sys.executable, "-m", "fluxjax.main", f"--config={config}", f"--workdir={workdir}"]


def evaluate(checkpoint, *options):
    return [sys.executable, "-m", "fluxjax.evaluate", f"--checkpoint={checkpoint}", *options]


def measured(table):
    """The rows of an evaluation.json without the speed."""
    return [{k: v for k, v in row.items() if k != "clips_per_second"} for row in table["rows"]]


def environment():
    # One device and one thread: bitwise promises hold for a fixed set-up.
    flags = "--xla_force_host_platform_device_count=1 --xla_cpu_multi_thread_eigen=false"
    flags += " --xla_backend_optimization_level=0"  # compiles in half the time
    return os.environ | {
        "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1",

    }  # fmt: skip


def run(*arguments):
    return finished(command(*arguments))


def finished(command):
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )


def final_state(workdir, step):
    path = workdir / "checkpoints" / str(step) / "state"
    return ocp.StandardCheckpointer().restore(path)


def logged(workdir):
    """Steps in log.jsonl; those of evaluations are marked."""
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["time"] > 1.7e9 and ("train/loss" in line) != ("eval/top1" in " ".join(line))
    return [line["step"] if "train/loss" in line else f"{line['step']} evaluated" for line in lines]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_train_evaluate_repeat_stop_kill_and_resume(video_list, tmp_path):
    whole = run(video_list, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    steps = re.findall(r"step (\d)/6 \| loss [\d.]+ .*clips/s \| data wait .*ETA", whole.stderr)
    assert steps == ["1", "2", "3", "4", "5", "6"]
    assert "| budget |" in whole.stdout and "12" in whole.stdout
    table = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert table["step"] == 6
    points = [(row["budget"], row["grid"]) for row in table["rows"]]
    assert points == [(8, "4x28"), (8, "2x28"), (4, "4x28"), (4, "2x28")]
    assert all(
        row["videos"] == 12 and 0 <= row["top1"] <= row["top5"] == 1 for row in table["rows"]
    )
    with open(tmp_path / "whole" / "evaluation.csv", newline="") as file:
        assert [row["grid"] for row in csv.DictReader(file)] == [grid for _, grid in points]
    assert fluxjax.load(tmp_path / "whole" / "model")[0].num_classes == 4
    assert any((tmp_path / "whole").glob("events.out.tfevents.*")), "no TensorBoard log"

    assert logged(tmp_path / "whole") == [1, 2, 3, 4, 5, 6, "6 evaluated"]

    # Looked at again without training: the same figures, and nothing in the run changes.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*")}
    looked = finished(evaluate(tmp_path / "whole", f"--output={tmp_path / 'looked'}"))
    assert looked.returncode == 0, looked.stderr
    again = json.loads((tmp_path / "looked" / "evaluation.json").read_text())
    assert measured(again) == measured(table)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*")}

    # Nothing changes in a workdir whose run is another one's.
    before = contents(tmp_path / "whole")
    for option, message in (
        ("--config.model.width=32", "config.model.width=32 (was 16)"),
        ("--config.seed=1", "config.seed=1 (was 0)"),
    ):
        refused = run(video_list, tmp_path / "whole", option)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert contents(tmp_path / "whole") == before

    # Repeated from its stored config, asked to stop once and killed once.
    broken = tmp_path / "broken"
    again = repeat(tmp_path / "whole" / "config.json", broken)
    for number, at, status in (
        (signal.SIGTERM, "step 2/6", signals.EXIT_STOPPED), (signal.SIGKILL, "step 5/6", -9),
    ):  # fmt: skip
        process = subprocess.Popen(
            again, cwd=ROOT, env=environment(), text=True, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        messages = ""
        for line in process.stderr:
            messages += line
            if at in line:
                process.send_signal(number)
                break
        messages += process.communicate(timeout=300)[1]
        assert process.returncode == status, messages
        if number == signal.SIGTERM:
            assert "stopped, everything is saved" in messages
            steps = [int(path.name) for path in (broken / "checkpoints").iterdir()]
            assert 2 <= max(steps) <= 4, "not the last finished step"
    resumed = finished(again)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"resuming at step [2-4] ", resumed.stderr), resumed.stderr
    assert "which ended without a word" in resumed.stderr
    assert logged(broken) == [1, 2, 3, 4, 5, 6, "6 evaluated"]
    a, b = (final_state(path, 6) for path in (tmp_path / "whole", broken))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert table["rows"][0]["top1"] == json.loads((broken / "evaluation.json").read_text())["rows"][
        0]["top1"]  # fmt: skip


@pytest.mark.slow
def test_a_tower_is_trained_first_then_stands_still(video_list, tmp_path):
    """One command for two runs; and again without the first, whose model is there."""
    arguments = command(video_list, tmp_path / "evl")
    arguments[arguments.index("tests/tiny.py")] = "tests/tiny.py:evl"
    options = {"cwd": ROOT, "env": environment(), "capture_output": True, "text": True}
    result = subprocess.run(arguments, **options, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "first a run of its own" in result.stderr
    before, after = (fluxjax.load(tmp_path / "evl" / p / "model") for p in ("pretrain", "."))
    assert type(before[0]).__name__ == "ClipImage" and type(after[0]).__name__ == "Evl"
    towers = [variables["params"]["tower"] for _, variables in (before, after)]
    jax.tree.map(np.testing.assert_array_equal, *towers)
    rows = json.loads((tmp_path / "evl" / "evaluation.json").read_text())["rows"]
    assert [(row["budget"], row["grid"]) for row in rows] == [(16, "4x28"), (8, "4x28"),
                                                              (4, "1x28")]  # fmt: skip
    again = subprocess.run(arguments, **options, timeout=600)
    assert again.returncode == 0 and "first a run of its own" not in again.stderr, again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config.data.trian=x"], "train"),
        (["--config.data.train=missing.txt"], "missing.txt"),
        (["--config.budgets=(400,)"], "budgets (400,) must lie between 1 and 16"),
        (["--config.task=clasify"], "unknown task 'clasify'"),
        (["--config.model.name=fluxvit_s"], "fluxvit_s14"),
        (
            ["--config.epochs=2", "--config.total_steps=5"],
            "config.epochs=2 and config.total_steps=5",
        ),
        (
            ["--config.checkpoint.best=top1_8_4x28", "--config.eval.every_steps=2"],
            "is no scalar of this run's evaluations; there are top1_8@4x28, top1_4@4x28",
        ),
        (
            ["--config.data.root=elsewhere"],
            "none of the 12 videos that were looked for is there, "
            "the first is elsewhere/0.mp4; relative paths begin at config.data.root",
        ),
        (["--config.dry_run=true", "--config.data.train=missing.txt"], "missing.txt"),
        (
            ["--config.dry_run=true", "--config.data.train=demo:easy", "--config.epochs=2"],
            "what config.epochs=2 come to is not known: set config.total_steps",
        ),
        (["--config.num_classes=0"], "config.num_classes=0 must be at least 1"),
        (["--config.eval.grids=('8x57',)"], "8x57 must have pixels that are a multiple"),
        (["--config.init_from="], "config.init_from: '' names no folder"),
        (["--config.eval.batch_size=0"], "config.eval.batch_size=0 must be at least 1"),
        (["--config.seed=x"], "seed"),
        (["--config=missing/config.json"], "missing/config.json"),
        (["surplus"], "unexpected arguments"),
        (["--config.lr=1"], "unknown config key config.lr; did you mean config.optim.lr?"),
        (["--config.model=fluxvit_s14"], "did you mean --config.model.name=fluxvit_s14?"),
        (["--config.optim=adamw"], "no value; did you mean --config.optim.name=adamw?"),
        (["--config.mixing=1"], "config.mixing is a section, no value; set one of its keys: "),
        (["--config.model.dtype=bf16"], "config.model.dtype='bf16' must be one of float32, bf"),
        (["--config.init_from=gs://a/b"], "config.init_from: gs://a/b is remote"),
        (["--workdir=gs://a/b"], "--workdir: gs://a/b is remote"),
        (["--workdir=setup.py"], "--workdir=setup.py is a file; name a folder"),
    ],
)
def test_mistakes_are_named_before_anything_is_compiled(video_list, tmp_path, options, message):
    result = run(video_list, tmp_path / "run", *options)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout
    assert "compiled" not in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists(), "something was written"
    assert not (ROOT / "gs:").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "error: --config is missing: a recipe such as"), (["--config_help"], "config.optim.lr")],
)
def test_without_a_recipe(options, message):
    result = finished([sys.executable, "-m", "fluxjax.main", *options])
    assert message in result.stdout + result.stderr
    assert result.returncode == (0 if options else 1) and "Traceback" not in result.stderr
