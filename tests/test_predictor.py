"""`fluxjax.Predictor`: videos, arrays, lists and folders; what is refused, and how."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.clips.views import eval_views
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.video import open_video
from data_pipelines.sources.records import Record
from fluxjax.budgets.points import Report, write_report
from fluxjax.evaluation.machine import this_machine
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.budgets import reports


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.write_run(tmp_path_factory.mktemp("predictor") / "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_run.write_videos(tmp_path_factory.mktemp("predictor") / "videos", 3).parent


@pytest.fixture(scope="module")
def predictor(run):
    return fluxjax.Predictor.from_checkpoint(run, budget=4, batch_size=2)


def expected(run, source, budget=4):
    """(probabilities, features) of the model itself on the view of the evaluation."""
    model, variables = fluxjax.load(run)
    clip = eval_views(Record(source, -1, ""), Grid(4, 28))[0][None]
    apply = jax.jit(lambda clip: model.apply(variables, clip, budget, return_features=True))
    logits, features = apply(clip)
    return np.asarray(jax.nn.softmax(logits))[0], np.asarray(features)[0]


def test_a_path(run, folder, predictor):
    path = folder / "1.mp4"
    prediction = predictor.predict(path)
    probabilities, features = expected(run, str(path))
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-6)
    np.testing.assert_allclose(prediction.features, features, atol=1e-5)
    best = prediction.top(2)
    assert [score.number for score in best] == np.argsort(-probabilities)[:2].tolist()
    assert [score.label for score in best] == [tiny_run.LABELS[s.number] for s in best]
    assert best[0].probability == pytest.approx(probabilities.max(), abs=1e-6)
    assert prediction.name == str(path) and prediction.error is None
    assert len(prediction.top(99)) == 4


def test_an_array_of_any_length_and_size_is_sampled_and_cropped(run, predictor):
    frames = np.random.default_rng(0).integers(0, 256, (11, 40, 61, 3), np.uint8)
    prediction = predictor.predict(frames)
    probabilities, _ = expected(run, ArrayVideo(frames))
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=1e-6)
    np.testing.assert_array_equal(predictor.predict(jax.numpy.asarray(frames))[1], prediction[1])


def test_lists_and_folders_come_in_order_with_their_errors(run, folder, predictor, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 100)
    with open_video(folder / "2.mp4") as video:
        frames = video.read(np.arange(video.num_frames))
    given = [folder / "0.mp4", bad, tmp_path / "gone.mp4", frames, str(folder / "1.mp4")]
    found = predictor.predict(given)
    assert [prediction.error is None for prediction in found] == [True, False, False, True, True]
    assert found[1].probabilities is None and found[1].name == str(bad)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        found[1].top()
    for prediction, source in zip(found, (str(given[0]), None, None, None, given[4]), strict=True):
        if source:
            want, _ = expected(run, source)
            np.testing.assert_allclose(prediction.probabilities, want, atol=1e-6)
    for path in (bad, tmp_path / "gone.mp4"):
        with pytest.raises(VideoError, match=path.name):
            predictor.predict(path)
    listed = predictor.predict(folder)
    assert [prediction.name for prediction in listed] == [
        str(folder / f"{i}.mp4") for i in range(3)
    ]
    np.testing.assert_allclose(listed[1].probabilities, found[4].probabilities, atol=1e-6)
    assert predictor.predict([]) == []


def test_one_program_for_batches_and_one_for_a_video_alone(run, folder):
    predictor = fluxjax.Predictor.from_checkpoint(run, budget=4, batch_size=2)
    sizes = []
    program = predictor._programs.predict
    predictor._programs.predict = lambda videos, setting: (
        sizes.append(videos.shape) or program(videos, setting)
    )
    paths = [str(folder / f"{i}.mp4") for i in range(3)]
    assert len(predictor.predict(paths)) == 3, "the last batch is padded"
    predictor.predict(paths[0])
    predictor.predict([np.zeros((5, 20, 20, 3), np.uint8)] * 5)
    assert sizes == [(2, 1, 4, 28, 28, 3)] * 2 + [(1, 1, 4, 28, 28, 3)] + [(2, 1, 4, 28, 28, 3)] * 3


def test_a_folder_of_frames_is_a_video_and_one_without_any_is_an_error(predictor, tmp_path):
    from PIL import Image

    frames = np.random.default_rng(1).integers(0, 256, (4, 28, 28, 3), np.uint8)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number}.png")
    prediction = predictor.predict(tmp_path / "frames")
    np.testing.assert_allclose(
        prediction.probabilities, predictor.predict(frames).probabilities, atol=1e-6
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no video"):
        predictor.predict(tmp_path / "empty")


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.full((4, 28, 28, 3), 200.0), "must be uint8 of 0 to 255, these are float64: convert"),
        (np.zeros((4, 28, 28, 3), np.float32), "these are float32"),
        (np.zeros((4, 28, 28, 3), np.int32), "these are int32"),
        (
            np.zeros((2, 4, 28, 28, 3), np.uint8),
            r"\[T, H, W, 3\], not \[2, 4, 28, 28, 3\]; several",
        ),
        (np.zeros((4, 3, 28, 28), np.uint8), r"not \[4, 3, 28, 28\]"),
        (7, "a path or an array of frames, not int"),
    ],
)
def test_what_is_no_video_is_refused(predictor, video, message):
    for given in (video, [video]):
        with pytest.raises((TypeError, ValueError), match=message):
            predictor.predict(given)


def test_the_settings_of_the_run_and_others(run, tmp_path):
    make = fluxjax.Predictor.from_checkpoint
    assert str(make(run).setting) == "4x28, 8 tokens (group_dynamic), head 0"
    assert (
        str(make(run / "model", grid="2x28", budget=99).setting) == "2x28, 8 tokens (all), head 0"
    )
    points = (
        reports.point(16, 0.95, 0.02, 9.0, "none", grid="4x28"),
        reports.point(8, 0.90, 0.01, 4.0, "uniform", grid="4x28"),
    )
    write_report(Report({}, this_machine(), points), tmp_path / "budgets.json")
    fast = make(run, limit_ms=5, report=tmp_path / "budgets.json")
    assert (fast.setting.budget, fast.setting.method) == (8, "uniform")
    for options, message in (
        ({"budget": 1}, r"budget 1 is too small for 4x28 \(group_dynamic\): at least 2"),
        ({"labels": ("a", "b")}, "2 labels are given, the model has 4 classes"),
        ({"clips": 0}, "clips=0 must be at least 1"),
        ({"grid": "4x28", "limit_ms": 5}, "drop it"),
    ):
        with pytest.raises(ValueError, match=message):
            make(run, **options)


def test_arrays_sampled_by_time_need_their_frame_rate(run):
    predictor = fluxjax.Predictor.from_checkpoint(run, sampling="time:0.5", batch_size=2)
    frames = np.random.default_rng(2).integers(0, 256, (30, 28, 28, 3), np.uint8)
    with pytest.raises(ValueError, match="sampled by time:0.5: pass fps"):
        predictor.predict(frames)
    slow, fast = (predictor.predict(frames, fps=fps).probabilities for fps in (10, 60))
    assert not np.allclose(slow, fast, atol=1e-6)


def test_labels_and_preprocessing_of_a_checkpoint(run):
    found = fluxjax.read_architecture(run)
    assert found.labels == tiny_run.LABELS
    assert found.pixels.mean == (0.485, 0.456, 0.406)
    model, variables = fluxjax.load(run)
    assert model == fluxjax.load(run / "model")[0] and "params" in variables


def test_importing_fluxjax_stays_light():
    program = """
import sys, fluxjax
heavy = [name for name in ("av", "tensorflow", "fluxjax.predictor") if name in sys.modules]
print(heavy, fluxjax.Predictor.__name__, "tensorflow" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.split("\n")[0] == "[] Predictor False", result.stderr
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        fluxjax.Predicter  # noqa: B018
