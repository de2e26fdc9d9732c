"""Batches are the same with a cache of frames, in training and in evaluation."""

import logging
import re

import numpy as np
import pytest

from data_pipelines.from_config import VideoData
from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests import tiny
from tests.data_pipelines import odd_files, video_files


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A list of sixteen: plain, odd, damaged and bad ones, a folder of images and one of chunks."""
    folder = tmp_path_factory.mktemp("videos")
    names = [f"{number}.mp4" for number in range(8)]
    for number, name in enumerate(names):
        video_files.write_video(folder / name, 10 + number, options=video_files.GOP12)
    for name in ("rotated.mp4", "10 bit.mp4", "images", "chunks.mp4"):
        odd_files.write_good(name, folder)
        names.append(name)
    names += odd_files.write_damaged(folder)
    (folder / "bad.mp4").write_bytes(b"no video")
    names.append("bad.mp4")
    lines = [f"{name} {number % 4}\n" for number, name in enumerate(names)]
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"


def config_of(videos, cache="", steps=8):
    """Two epochs of sixteen videos, with all that is drawn on the host."""
    config = tiny.get_config()
    config.data.train = config.data.test = str(videos)
    config.data.root, config.data.cache = str(videos.parent), str(cache)
    config.data.max_bad_share, config.data.workers = 1.0, 4
    config.data.flip, config.data.rand_augment = True, "rand-m7-n2-mstd0.5-inc1"
    config.batch_size, config.data.repeats, config.total_steps = 8, 2, steps
    config.eval.clips, config.eval.crops = 2, 3
    return config


def read(config, workdir, first=0):
    """(training batches, evaluation batches twice, what is known of bad videos, the data)."""
    data, task = VideoData.open(config, workdir=workdir), create_task(config)
    train = list(data.train_batches(task.example(), first))
    spec = task.eval_example(Grid(4, 28))
    tests = [batch for _ in range(2) for batch in data.eval_batches(spec)]
    counts = data.bad.tried, data.bad.count, data.bad.damaged, dict(data.bad.unreadable)
    return train, tests, counts, data


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("where", ["memory", "folder", "small"])
def test_two_epochs_are_bitwise_the_same(videos, tmp_path, caplog, where):
    plain = read(config_of(videos), tmp_path)
    config = config_of(videos, tmp_path / "frames" if where == "folder" else "memory")
    if where == "small":
        config.data.cache_gib = 1.5e6 / 2**30
    with caplog.at_level(logging.INFO):
        for workdir in ("a", "b"):  # a folder is full of frames the second time
            (tmp_path / workdir).mkdir()
            train, tests, counts, data = read(config, tmp_path / workdir)
            assert_same(train, plain[0])
            assert_same(tests, plain[1])
            assert counts == plain[2] and counts[1] > 0 and counts[2] > 0
    assert len({batch["example"].tobytes() for batch in train}) == 8
    reports = [text for text in caplog.messages if text.startswith("frame cache: ")]
    # After each of two epochs, twice; none where reading ahead was done before the last report.
    readings = [int(re.search(r"of (\d+) readings", text)[1]) for text in reports]
    assert len(readings) in (2, 3, 4) and sum(readings) == 2 * 38
    bound = config.data.cache_gib * 2**30
    assert 0 < data.cache.videos < 16 and data.cache._used <= bound
    assert data.cache._readings and data.cache._hits, "the evaluations, after the last report"
    if where == "folder":
        assert data.cache.videos == 8 + 2 + 3, "eight, the rotated one, images, three chunks"
    assert (tmp_path / "a/quarantine.jsonl").read_text().count("bad.mp4") == 1
    lines = [len((tmp_path / w / "quarantine.jsonl").read_text().splitlines()) for w in "ab"]
    assert lines[0] == lines[1] == len((tmp_path / "quarantine.jsonl").read_text().splitlines())


def test_a_resumed_run_reads_what_an_unbroken_one_would(videos, tmp_path):
    whole = read(config_of(videos), tmp_path)[0]
    resumed = read(config_of(videos, tmp_path / "frames"), tmp_path, first=5)[0]
    assert_same(resumed, whole[5:])


def test_wrong_values_are_errors_before_anything_is_read(videos, tmp_path):
    config = config_of(videos, "ram")
    with pytest.raises(ValueError, match=r"config\.data\.cache='ram' must be '', memory or a fold"):
        check_config(config)
    config = config_of(tmp_path / "no list.txt", tmp_path / "file" / "frames")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"config\.data\.cache='.*' cannot be written to"):
        VideoData.open(config)
    config = config_of(videos, "memory")
    for bound in (0.0, float("inf"), float("nan")):
        config.data.cache_gib = bound
        with pytest.raises(ValueError, match=rf"data\.cache_gib={bound} must be positive and fini"):
            check_config(config)
    config = tiny.evl_config()
    config.task, config.data.cache, config.features.dir = "classify_features", "memory", "/f"
    config.data.crop_scale = config.data.crop_ratio = (1.0, 1.0)
    config.eval.budgets = (16,)
    with pytest.raises(ValueError, match=r"config\.data\.cache='memory' must be ''"):
        check_config(config)
    for value in ("", "memory", str(tmp_path), "./frames"):
        check_config(config_of(videos, value))
