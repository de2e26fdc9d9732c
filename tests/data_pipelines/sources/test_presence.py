"""A look at a sample of the files that a source names."""

import pytest

from data_pipelines.sources.catalog import open_catalog, opens_at_once
from data_pipelines.sources.presence import LOOKED_AT, check_files


@pytest.fixture
def listed(tmp_path):
    lines = [f"clips/{i:03}.mp4 {i % 2}\n" for i in range(100)]
    (tmp_path / "list.txt").write_text("".join(lines))
    (tmp_path / "clips").mkdir()
    return tmp_path


def look(folder, **options):
    source = str(folder / "list.txt")
    catalog = open_catalog(source, split="train", root=str(folder), **options)
    check_files(catalog, "data.train", source, str(folder))


@pytest.mark.parametrize("classes", [(), (1, 0)])
def test_videos_none_of_which_is_there_are_one_error(listed, classes):
    with pytest.raises(ValueError) as error:
        look(listed, classes=classes)
    message = str(error.value)
    assert f"none of the {LOOKED_AT} videos" in message and "\n" not in message
    assert f"the first is {listed}/clips/000.mp4" in message
    assert f"config.data.root (--root), which is {str(listed)!r}" in message


def test_some_that_are_gone_are_named(listed, caplog):
    for i in range(1, 100):
        (listed / "clips" / f"{i:03}.mp4").touch()
    look(listed)
    (message,) = caplog.messages
    assert f"of {LOOKED_AT} videos that were looked for 1 are not there" in message
    assert "the first is" in message and "000.mp4" in message
    (listed / "clips" / "000.mp4").touch()
    caplog.clear()
    look(listed)
    assert not caplog.messages


def test_sources_that_need_no_preparation():
    assert all(opens_at_once(source) for source in ("dummy:3", "a.txt", "gs://a/b", "a.tar"))
    assert not any(opens_at_once(source) for source in ("demo:easy", "tfds:ucf101"))
    check_files(open_catalog("dummy:3", split="train", num_classes=2), "data.train", "dummy:3", "")
