"""Exported programs against the model, in processes that know nothing of fluxjax."""

import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.clips.crops import ViewPlaces
from data_pipelines.clips.sampling import FRAME_SAMPLERS
from fluxjax.budgets.points import Report, write_report
from fluxjax.export import __main__ as command
from fluxjax.export import artefacts
from fluxjax.serving.settings import Setting, forward, make_setting
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.budgets.reports import point
from tests.export.clean_environment import clean_environment
from tests.tasks.test_classify import task_and_variables

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.write_run(tmp_path_factory.mktemp("export") / "run")


def clips(grid, count):
    shape = (count, grid.frames, grid.resolution, grid.resolution, 3)
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


@pytest.mark.slow
def test_exported_programs_are_the_model_where_it_cannot_be_imported(run, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    options = ["--checkpoint", str(run), "--target", str(out), "--budgets", "16,8,4", "--orbax"]
    assert command.main(options) == 0
    assert "4x28, 4 tokens (group_dynamic), head 1: " in capsys.readouterr().out
    calls = []
    for count in (1, 7):
        np.save(tmp_path / f"{count}.npy", clips(Grid(4, 28), count))
        calls += [(budget, count) for budget in (16, 8, 5)]
    program = f"""
import runpy, sys
for budget, count in {calls}:
    sys.argv = ["serve.py", {str(out)!r}, str(budget), f"{tmp_path}/{{count}}.npy",
                f"{tmp_path}/{{budget}}_{{count}}_logits.npy"]
    runpy.run_path({str(ROOT / "examples" / "serve.py")!r}, run_name="__main__")
"""
    environment = clean_environment(tmp_path / "installed", "jax", "flatbuffers")
    result = environment(program)
    assert result.returncode == 0, result.stderr
    names = result.stdout.split()
    assert len(names) == 3 * (1 + 7) and set(names) <= set(tiny_run.LABELS)
    model, variables = fluxjax.load(out / "model")
    found = []
    for budget, count in calls:
        setting = make_setting(model, Grid(4, 28), 4 if budget == 5 else budget)
        expected = jax.jit(lambda x, s=setting: forward(model, variables, x, s))(
            np.load(tmp_path / f"{count}.npy")
        )
        logits = np.load(tmp_path / f"{budget}_{count}_logits.npy")
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        found.append(logits[0])
    assert not np.allclose(found[0], found[1], atol=1e-4), "budgets give the same logits"
    ladder = json.loads((out / "ladder.json").read_text())
    assert [(r["budget"], r["grid"], r["head"], r["top1"]) for r in ladder["rungs"]] == [
        (16, "4x28", 0, None), (8, "4x28", 0, None), (4, "4x28", 1, None),
    ]  # fmt: skip
    costs = [rung["gmacs"] for rung in ladder["rungs"]]
    assert costs == sorted(costs, reverse=True) and costs[-1] > 0
    constants = json.loads((out / "preprocessing.json").read_text())
    assert constants["normalised_inside"]["mean"] == list(
        fluxjax.tokens.tokens.IMAGENET_PIXELS.mean
    )
    assert json.loads((out / "labels.json").read_text()) == list(tiny_run.LABELS)


@pytest.mark.parametrize(("sampling", "rule"), [("dense:4", "s + 4 * i"), ("ssv2", "(i + 1 / 2)")])
def test_the_preprocessing_says_how_the_run_sampled_frames(sampling, rule):
    text = artefacts.preprocessing(fluxjax.create_model("fluxvit_ti14"), sampling)["frames"]
    assert rule in text


def test_the_preprocessing_knows_every_sampler_and_says_where_the_view_lies():
    model = fluxjax.create_model("fluxvit_ti14")
    for sampling in (*FRAME_SAMPLERS, "dense:4", "time:2"):
        assert "of the n frames" in artefacts.preprocessing(model, sampling)["frames"]
    said = artefacts.preprocessing(model, "ssv2", ViewPlaces(0.875, "start"))["crop"]
    assert said.startswith("the left or upper square") and "0.875 of its short side" in said


def code_of(exported):
    """The program's text without the places in the source that it came from."""
    lines = exported.mlir_module().splitlines()
    return [re.sub(r" loc\(.*?\)", "", line) for line in lines if not line.startswith("#loc")]


@pytest.mark.slow
def test_programs_are_for_every_platform_and_any_batch():
    task, variables = task_and_variables()
    setting = make_setting(task.model, Grid(4, 28), 8)
    exported = artefacts.export_program(task.model, variables, setting)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    clips_in = exported.in_avals[-1]
    assert str(clips_in.shape[0]) == "batch" and clips_in.shape[1:] == (4, 28, 28, 3)
    assert exported.out_avals[0].shape[1:] == (4,)
    names = artefacts.flat_weights(variables)
    assert not any("decoders" in name for name in names) and "blocks_0/attn/qkv/kernel" in names
    cudnn = task.model.clone(attention="cudnn")
    again = artefacts.export_program(cudnn, variables, setting)
    assert code_of(again) == code_of(exported), "the back end of training leaked"


@pytest.mark.slow
def test_merging_is_exported_for_any_batch():
    task, variables = task_and_variables()
    setting = make_setting(task.model, Grid(4, 28), 9, "merge")
    exported = artefacts.export_program(task.model, variables, setting, ["cpu"])
    call = jax.jit(lambda video: exported.call(artefacts.flat_weights(variables), video))
    expected = jax.jit(lambda video: forward(task.model, variables, video, setting))
    for count in (1, 3):
        video = clips(Grid(4, 28), count)
        np.testing.assert_allclose(call(video), expected(video), rtol=1e-4, atol=1e-5)
    entry = artefacts.ladder_entry(artefacts.Rung(setting, 1.0))
    assert entry["program"] == "program_9_4x28_merge.jaxexport"


def test_a_report_chooses_the_settings(run, tmp_path):
    report = tmp_path / "budgets.json"
    points = (
        point(8, 0.9, 0.01, 2.0, grid="4x28"),
        point(4, 0.7, 0.01, 1.0, grid="2x28"),
        point(16, 0.8, 0.02, 3.0, "none", grid="4x28"),
    )
    write_report(Report({}, {}, points), report)
    options = command.parser().parse_args(
        ["--checkpoint", str(run), "--target", "x", "--budgets", "16,8,4", "--report", str(report)]
    )
    checkpoint = command.open_checkpoint(run)
    rungs = command.rungs_of(options, checkpoint)
    assert [(str(r.setting.grid), r.setting.budget, r.point.top1) for r in rungs] == [
        ("4x28", 8, 0.9),  # better than all 16 tokens
        ("2x28", 4, 0.7),
    ]
    entry = artefacts.ladder_entry(rungs[0])
    assert (entry["top1"], entry["latency_ms"]) == (0.9, 2.0)
    options.grid = "4x28"
    rungs = command.rungs_of(options, checkpoint)
    assert [(r.setting.budget, r.point and r.point.top1) for r in rungs] == [
        (16, 0.8), (8, 0.9), (4, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budgets", "many"], "--budgets=many must be whole numbers"),
        (
            ["--budgets", "3", "--grid", "8x28"],
            "budget 3 is too small for 8x28 (group_dynamic): at least 4",
        ),
        (["--platforms", "cpu,npu"], "unknown platforms ['npu']"),
        (["--report", "missing.json"], "there is no report missing.json"),
        (["--target", str(ROOT)], "holds something already"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(run, tmp_path, options, message, capsys):
    given = ["--checkpoint", str(run), "--target", str(tmp_path / "out"), *options]
    assert command.main(given) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_random_selections_are_not_served():
    task, _ = task_and_variables()
    with pytest.raises(ValueError, match="every call would keep other tokens"):
        artefacts.serving_function(task.model, Setting(Grid(4, 28), 8, "random", 0))


@pytest.mark.slow
def test_a_saved_model_gives_the_models_logits(tmp_path):
    from fluxjax.export.saved_model import write_saved_model

    task, variables = task_and_variables()
    setting = make_setting(task.model, Grid(4, 28), 8)
    write_saved_model(tmp_path / "saved", task.model, variables, setting)
    video = clips(Grid(4, 28), 3)
    program = f"""
import numpy as np, tensorflow as tf
serve = tf.saved_model.load({str(tmp_path / "saved")!r}).signatures["serving_default"]
clips = np.load({str(tmp_path / "clips.npy")!r})
np.save({str(tmp_path / "logits.npy")!r},
        np.concatenate([serve(clips=clips[:1])["logits"], serve(clips=clips[1:])["logits"]]))
"""
    np.save(tmp_path / "clips.npy", video)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    expected = jax.jit(lambda x: forward(task.model, variables, x, setting))(video)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-4, atol=1e-5)
