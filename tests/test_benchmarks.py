"""Benchmarks that need no video run where TensorFlow and PyAV are not installed."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from benchmarks import ffn_versus_separate, video_text, videomae_pretraining

ROOT = pathlib.Path(__file__).parents[1]
RUN = """
import runpy, sys
for name in ("tensorflow", "tensorflow_datasets", "av"):
    sys.modules[name] = None  # importing it raises ImportError
name, sys.argv[1:] = sys.argv[1], sys.argv[2:]
runpy.run_module(f"benchmarks.{name}", run_name="__main__")
"""
TINY = ("--model=fluxvit_ti14", "--grid=2x28", "--budgets=8,4")


def run(tmp_path, name, *options):
    path = tmp_path / "result.json"
    command = [sys.executable, "-c", RUN, name, *TINY, *options, f"--json={path}"]
    result = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]
    record = json.loads(path.read_text())
    assert record["machine"]["versions"]["jax"] and record["title"] in result.stdout
    return record["rows"]


@pytest.mark.slow
def test_train_step_on_a_mesh(tmp_path):
    mesh = "data=2,fsdp=2,tensor=2"
    (row,) = run(tmp_path, "train_step", "--batch=4", "--repeats=2", f"--mesh={mesh}")
    assert row["mesh"] == mesh
    assert row["compile"].startswith("1 in "), "more than one program"
    # 12 tokens of a clip go through the trunk; both figures are rounded.
    assert float(row["tokens/s"]) == pytest.approx(12 * float(row["clips/s"]), rel=0.01)
    assert row["MFU"] == "peak unknown" and float(row["model TFLOP/s"]) > 0
    assert 0 < float(row["embed, select, position"].rstrip("%")) < 100


@pytest.mark.slow
def test_half_precision_is_near_single(tmp_path):
    rows = run(tmp_path, "precision", "--batch=2")
    assert [row["tokens"] for row in rows] == [8, 4]
    errors = [float(row["largest"]) for row in rows]
    assert 1e-4 < errors[0] < 0.02, "not bfloat16's rounding"


def test_a_machine_without_a_gpu_is_told_so_at_once(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", f"--output={tmp_path / 'results'}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and not (tmp_path / "results").exists()
    assert result.stderr == (
        'error: JAX finds no GPU here; for one, it needs pip install "fluxjax[cuda]"\n'
    )


def test_separate_networks_are_asked_where_they_are_nearest():
    names, frames = ffn_versus_separate.TRAININGS, (2, 3, 5, 6, 7, 10)
    scores = {}
    for name, base in zip(names, (10, 20, 40, 80), strict=True):
        scores[name] = [{n: base + n / 100 + seed for n in frames} for seed in (0, 1)]
    rows = ffn_versus_separate.series(scores)
    first = {n: seeds[0] for n, seeds in rows["separate"].items()}
    assert first == {2: 20.02, 3: 40.03, 5: 40.05, 6: 80.06, 7: 80.07, 10: 80.1}
    assert rows["st8"][2] == [80.02, 81.02] and list(rows)[:2] == ["ffn", "separate"]
    assert "5.0% ± 1.4%" in ffn_versus_separate.table_of({"ffn": {2: [0.04, 0.06]}})


@pytest.mark.slow
def test_the_teachers_share_of_a_step(tmp_path):
    path = tmp_path / "result.json"
    options = ("--teacher=internvideo2_ti14", "--model=fluxvit_student_ti14", "--grid=4x28",
               "--tokens=8", "--budgets=8,4", "--batch=8", "--repeats=1")  # fmt: skip
    command = [sys.executable, "-c", RUN, "distill_step", *options, f"--json={path}"]
    result = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (row,) = json.loads(path.read_text())["rows"]
    assert row["programs"] == 1
    assert 0 < float(row["its share"].rstrip("%")) < 100
    assert float(row["its weights"].split()[0]) > 1  # 4 layers of 128 channels, float32


def test_pre_training_is_compared_seed_by_seed():
    top1 = {"pre-trained": [0.6, 0.5, 0.7], "random": [0.3, 0.4, 0.2]}
    lines = videomae_pretraining.table_of(top1, (0, 1, 2)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["weights at the start", "seed 0", "seed 1", "seed 2", "mean"]
    assert cells[-1] == ["difference", "30.0%", "10.0%", "50.0%", "30.0% ± 20.0%"]


def test_torch_gets_a_clips_pixels_by_channel_row_and_column(tmp_path):
    sizes = {"width": 16, "depth": 1, "grid": (2, 2), "patch": 8, "num_frames": 2}
    model = fluxjax.create_model("avion_ti8", None, **sizes)
    video = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), np.uint8)
    ids = np.zeros((1, model.context_length), np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), video, ids)
    video_text.write_for_torch(tmp_path / "in.npz", model, variables, video, ids)
    patches = np.load(tmp_path / "in.npz")["input/patches"].reshape(2, 2, 2, 3, 8, 8)
    mean, std = (np.asarray(x) for x in model.pixels)
    expected = (video[0] / 255.0 - mean) / std
    # Of frame 1 the patch in row 1, column 0.
    np.testing.assert_allclose(
        patches[1, 1, 0], np.moveaxis(expected[1, 8:, :8], -1, 0), rtol=1e-5, atol=1e-6
    )
