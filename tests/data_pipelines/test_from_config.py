"""Which data a config may name together, and which splits are opened."""

import fractions

import numpy as np
import pytest

from data_pipelines.from_config import VideoData
from data_pipelines.sources import rows
from data_pipelines.sources.array_records import ArrayCatalog
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests import tiny
from tests.data_pipelines.reading.test_streams import write_wide


def config_of(train, test):
    config = tiny.get_config()
    config.data.train, config.data.test = str(train), str(test)
    return config


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "list.txt"
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for video in videos:
        video.touch()
    path.write_text(f"{videos[0]} 0\n{videos[1]} 3\n")
    return path


@pytest.mark.parametrize(
    ("train", "test", "wrong"),
    [
        ("own", "demo:easy", "config.data.test='demo:easy' is the demo corpus"),
        ("own", "demo", "config.data.test='demo' is the demo corpus"),
        ("tfds:mine", "demo:hard", "config.data.test='demo:hard' is the demo corpus"),
        ("demo:easy", "own", "config.data.train='demo:easy' is the demo corpus"),
    ],
)
def test_a_forgotten_list_is_an_error(own, train, test, wrong):
    names = {"own": own}
    config = config_of(names.get(train, train), names.get(test, test))
    with pytest.raises(ValueError, match=f"{wrong}.*name (test|train) videos"):
        VideoData.open(config)


def test_blank_training_videos_may_be_tested_on_anything(own):
    data = VideoData.open(config_of("dummy:8", own))
    assert len(data.train) == 8 and len(data.test) == 2


def test_only_the_splits_that_are_asked_for_are_opened(own):
    data = VideoData.open(config_of("missing.txt", own), splits=("test",))
    assert len(data.catalog("test")) == 2
    with pytest.raises(ValueError, match="train videos were not opened"):
        data.catalog("train")
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        VideoData.open(config_of("missing.txt", own))


def test_a_root_that_is_wrong_is_one_error(own):
    own.write_text("a.mp4 0\nb.mp4 3\n")
    with pytest.raises(ValueError, match="config.data.train=.*the first is a.mp4.*data.root"):
        VideoData.open(config_of(own, own))


def test_some_records_are_evenly_spaced():
    catalog = ArrayCatalog([np.zeros((1, 2, 2, 3), np.uint8)] * 10, list(range(10)))
    labels = lambda count: rows.some(catalog, count).labels().tolist()  # noqa: E731
    assert labels(4) == [0, 3, 6, 9] and labels(1) == [0]
    assert rows.some(catalog, None) is rows.some(catalog, 10) is catalog
    with pytest.raises(ValueError, match="at least 1"):
        rows.some(catalog, 0)


def test_square_pixels_of_the_config_reach_training_and_evaluation(tmp_path):
    """A picture of 80x64 that players show as 107x64: other places are seen."""
    write_wide(tmp_path / "wide.mp4", fractions.Fraction(4, 3))
    listed = tmp_path / "list.txt"
    listed.write_text("wide.mp4 0\n" * 8)
    seen = {}
    for square in (False, True):
        config = config_of(listed, listed)
        config.data.root, config.data.square_pixels = str(tmp_path), square
        config.num_classes = 4
        data, task = VideoData.open(config), create_task(config)
        trained = next(data.train_batches(task.example(), 0))["patches"]
        tested = next(data.eval_batches(task.eval_example(Grid(2, 28))))["patches"]
        seen[square] = trained, tested
    for plain, shown in zip(seen[False], seen[True], strict=True):
        assert plain.shape == shown.shape and (plain != shown).any()
