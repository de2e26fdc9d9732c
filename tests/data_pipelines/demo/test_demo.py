"""The demo corpus: what it promises about motion, splits, files and generation."""

import fcntl
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from data_pipelines import demo
from data_pipelines.demo import encode, motion, preview, render
from data_pipelines.sources.catalog import open_catalog

av = pytest.importorskip("av")
pytest.importorskip("sklearn")

TINY = (8, 4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small corpus, prepared once: its builder."""
    pytest.importorskip("tensorflow_datasets")
    return demo.load("easy", tmp_path_factory.mktemp("demo"), num_examples=TINY)


@pytest.mark.parametrize("name", list(motion.VARIANTS))
def test_trajectories_stay_inside_and_move(name):
    variant = motion.VARIANTS[name]
    rng = np.random.default_rng(0)
    for label in variant.motions:
        paths = np.stack([motion.trajectory(variant, label, rng) for _ in range(300)])
        position, half = paths[..., :2], paths[..., 2:] / 2
        assert (position - half).min() >= 0 and (position + half).max() <= motion.FRAME_SIZE
        four = paths[:, 4::8]  # one frame from each quarter
        moved = np.abs(np.diff(four[..., :2], axis=1)).sum(axis=-1).max(axis=1)
        grown = np.abs(np.log(four[:, -1, 2] / four[:, 0, 2]))
        assert np.all((moved > 6.0) | (grown > 0.4)), label


@pytest.mark.parametrize("name", list(motion.VARIANTS))
def test_the_middle_is_the_same_for_every_motion(name):
    """With equal draws, all classes coincide at time 0, and opposites mirror each other there."""
    variant = motion.VARIANTS[name]
    paths = {m: motion.trajectory(variant, m, np.random.default_rng(5)) for m in variant.motions}
    middles = np.stack([path[15:17].mean(axis=0) for path in paths.values()])
    np.testing.assert_allclose(middles, middles[:1].repeat(len(middles), 0), rtol=0.03)
    opposites = [("right", "left"), ("grow", "shrink")]
    if name == "hard":
        opposites.append(("circle_clockwise", "circle_counterclockwise"))
    for one, other in opposites:
        np.testing.assert_allclose(paths[one], paths[other][::-1])
        assert np.abs(paths[one] - paths[other]).max() > 5
    assert np.diff(paths["right"][:, 0]).min() > 0 and np.diff(paths["grow"][:, 2]).min() > 0


def test_clockwise_is_clockwise():
    path = motion.trajectory(motion.HARD, "circle_clockwise", np.random.default_rng(1))
    x, y = np.diff(path[:, :2], axis=0).T
    assert (x[:-1] * y[1:] - y[:-1] * x[1:]).min() > 0  # y points down: this turns clockwise


def test_rendering_is_a_function_of_variant_split_and_index():
    one, again = (render.render("easy", "train", 3) for _ in range(2))
    np.testing.assert_array_equal(one.frames, again.frames)
    assert one.frames.shape == (32, 128, 128, 3) and one.frames.dtype == np.uint8
    for other in (("easy", "train", 7), ("easy", "test", 3), ("hard", "train", 3)):
        assert np.abs(render.render(*other).path - one.path).max() > 0.1
    with pytest.raises(ValueError, match="unknown demo variant 'esay'"):
        render.render("esay", "train", 0)
    with pytest.raises(ValueError, match="unknown split 'val'"):
        render.render("easy", "val", 0)


def test_the_digit_is_where_the_path_says():
    """The difference to the background is centred on the path, at both ends of the clip."""
    for index in (0, 2, 3):
        clip = render.render("easy", "train", index)
        first, last = clip.frames[[0, -1]].astype(float)
        change = np.abs(first - last).sum(axis=-1)
        ys, xs = np.nonzero(change > 120)
        both = clip.path[[0, -1]]
        low = (both[:, :2] - both[:, 2:] / 2).min(axis=0)
        high = (both[:, :2] + both[:, 2:] / 2).max(axis=0)
        assert len(xs) > 50
        assert low[0] - 3 <= xs.min() and xs.max() <= high[0] + 3
        assert low[1] - 3 <= ys.min() and ys.max() <= high[1] + 3


@pytest.mark.parametrize("name", list(motion.VARIANTS))
def test_splits_share_no_scan_and_no_texture(name, monkeypatch):
    # Only what a clip is made of matters here, so nothing is painted.
    monkeypatch.setattr(render, "_paint", lambda *args: None)
    clips = {s: [render.render(name, s, i) for i in range(48)] for s in render.SPLITS}
    scans = {split: {clip.scan for clip in clips[split]} for split in clips}
    assert not scans["train"] & scans["test"] and len(scans["test"]) > 24
    assert len({clip.photo for clip in clips["test"]}) == 2
    used = {s: [c.columns for c in clips[s]] for s in clips}
    assert max(end for _, end in used["train"]) < min(start for start, _ in used["test"])
    assert max(end for _, end in used["test"]) <= 640
    for split in clips:
        labels = np.bincount([clip.label for clip in clips[split]])
        assert len(labels) == len(motion.VARIANTS[name].motions) and np.ptp(labels) == 0


@pytest.mark.slow
def test_one_frame_does_not_tell_but_differences_do():
    """Linear classifiers on rendered pixels, from the train split to the test split."""
    from sklearn.linear_model import LogisticRegression

    def summary(frame):
        """Centre of mass, spread and amount of what is unusual in a 16x16 difference image."""
        grid, weight = np.arange(16), frame**2 / (frame**2).sum()
        x, y = weight.sum(axis=0) @ grid, weight.sum(axis=1) @ grid
        return np.array([x, y, weight.sum(axis=0) @ (grid - x) ** 2, np.log((frame**2).sum())])

    def features(split, count):
        clips = [render.render("easy", split, index) for index in range(count)]
        small = [c.frames.mean(-1).reshape(32, 16, 8, 16, 8).mean((2, 4)) / 255 for c in clips]
        unusual = [frames - np.median(frames, axis=0) for frames in small]
        middle = np.array([frames[16].ravel() for frames in small])
        change = np.array([summary(frames[27]) - summary(frames[4]) for frames in unusual])
        return middle, change, np.array([clip.label for clip in clips])

    *train, train_labels = features("train", 320)
    *test, test_labels = features("test", 200)
    scores = []
    for fit, check, strength in zip(train, test, (0.001, 1.0), strict=True):
        mean, scale = fit.mean(axis=0), fit.std(axis=0)
        model = LogisticRegression(C=strength, max_iter=300).fit((fit - mean) / scale, train_labels)
        scores.append(model.score((check - mean) / scale, test_labels))
    print("middle frame", scores[0], "change", scores[1])
    assert scores[0] < 0.36 and scores[1] > 0.7  # chance is 0.25


def test_encoded_video_is_h264_with_b_frames():
    clip = render.render("easy", "train", 1)
    video = encode.encode_h264(clip.frames, fps=16)
    assert video == encode.encode_h264(clip.frames, fps=16)
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 16 and stream.frames == 32
        kinds = [frame.pict_type for frame in container.decode(stream)]
    keys = [i for i, kind in enumerate(kinds) if kind == av.video.frame.PictureType.I]
    assert keys == [0, 12, 24]
    assert kinds.count(av.video.frame.PictureType.B) > 10
    frames = preview.decode_all(video)
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(float) - clip.frames).mean() < 5.0  # of 255; colours not swapped
    assert 2_000 < len(video) < 12_000


def test_encoder_refuses_what_it_cannot_store():
    with pytest.raises(ValueError, match="must be uint8"):
        encode.encode_h264(np.zeros((2, 16, 16, 3), np.float32), fps=16)
    with pytest.raises(ValueError, match="even height and width, not 15x16"):
        encode.encode_h264(np.zeros((2, 15, 16, 3), np.uint8), fps=16)


def test_corpus_is_readable_at_random_and_made_once(tiny, tmp_path):
    from data_pipelines.demo import builder as builder_lib

    source = tiny.as_data_source("train")
    assert len(source) == TINY[0] and len(tiny.as_data_source("test")) == TINY[1]
    for index in (5, 0):  # record i is example i
        want = builder_lib.example("easy", "train", index)
        assert source[index] == want
    written = {path: os.stat(path).st_mtime_ns for path in tiny.data_path.iterdir()}
    again = demo.load("easy", tiny.data_path.parents[2], num_examples=TINY)
    assert again.data_path == tiny.data_path
    assert written == {path: os.stat(path).st_mtime_ns for path in again.data_path.iterdir()}
    other = demo.load("easy", tmp_path, num_examples=TINY)  # a second generation, the same bytes
    assert list(other.as_data_source("train")) == list(source)
    with pytest.raises(ValueError, match="both at least 1"):
        demo.load("easy", tmp_path, num_examples=(8, 0))


def test_corpus_as_a_catalog(tiny, monkeypatch):
    monkeypatch.setattr(demo, "load", lambda variant, data_dir: tiny)
    catalog = open_catalog("demo:easy", split="test")
    assert (catalog.num_classes, catalog.label_names) == (4, motion.EASY.motions)
    record = catalog[3]
    assert record.name == "demo:easy/test[3]" and record.label == 3
    assert preview.decode_all(record.source).shape[0] == 32
    with pytest.raises(ValueError, match="num_classes says 5"):
        open_catalog("demo", split="test", num_classes=5)
    with pytest.raises(ValueError, match="validation"):
        open_catalog("demo", split="validation")
    data_dir = tiny.data_path.parents[2]
    as_tfds = open_catalog(
        f"tfds:flux_demo/{tiny.builder_config.name}", split="test", data_dir=data_dir
    )
    assert as_tfds[3].source == record.source


def test_contact_sheet(tiny):
    source = tiny.as_data_source("test")
    sheet = preview.contact_sheet([source[0], source[1]], motion.EASY.motions, columns=3)
    assert sheet.size == (150 + 3 * 132, 4 + 2 * 132)
    assert np.asarray(sheet).std() > 20


def test_data_dir_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FLUXJAX_DATA_DIR", str(tmp_path))
    assert demo.default_data_dir() == tmp_path
    monkeypatch.delenv("FLUXJAX_DATA_DIR")
    assert demo.default_data_dir().parts[-2:] == (".cache", "fluxjax")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")
def test_interrupted_generation_leaves_no_corpus(tmp_path, caplog):
    """Killed while writing, without a chance to clean up; the next call makes all of it."""
    size = (300, 4)
    load = f"demo.load('easy', {str(tmp_path)!r}, num_examples={size})"
    code = f"from data_pipelines import demo; {load}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    home = tmp_path / "flux_demo" / "easy_300_4"
    deadline = time.monotonic() + 120
    while not list(home.glob("incomplete*")) and time.monotonic() < deadline:
        assert process.poll() is None, "generation ended before it could be interrupted"
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(home.glob("incomplete*")) and not (home / "1.0.0").exists()
    builder = demo.load("easy", tmp_path, num_examples=size)
    assert len(builder.as_data_source("train")) == 300
    assert "removing" in caplog.text and not list(home.glob("incomplete*"))


def test_a_corpus_that_another_process_is_making_is_waited_for(tiny, tmp_path, monkeypatch):
    home = tmp_path / "flux_demo" / pathlib.Path(tiny.data_dir).parent.name
    home.mkdir(parents=True)
    (home / "incomplete.AB_1.0.0").mkdir()  # the other one is writing here

    def refuse(builder, **_):
        raise AssertionError("the corpus is made a second time")

    monkeypatch.setattr(type(tiny), "download_and_prepare", refuse)
    loaded = []
    load = lambda: loaded.append(demo.load("easy", tmp_path, num_examples=TINY))  # noqa: E731
    with open(home / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=load)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and (home / "incomplete.AB_1.0.0").exists()
        shutil.copytree(tiny.data_dir, home / "1.0.0")
    thread.join(60)
    assert len(loaded[0].as_data_source("train")) == TINY[0]
