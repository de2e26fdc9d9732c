"""A folder of class folders as a source."""

import logging

import pytest

from data_pipelines import doctor
from data_pipelines.sources import video_manifest
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.video_manifest import bad_videos


@pytest.fixture
def folder(tmp_path):
    for name in (
        "train/run/b.mp4", "train/run/a.MP4", "train/jump high/c.webm", "train/jump high/d/e.avi",
        "train/jump high/notes.txt", "train/run/.hidden.mp4", "train/.cache/x/y.mp4",
        "train/sit/cover.jpg", "test/run/t.mp4",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_class_folders(folder, caplog):
    caplog.set_level(logging.INFO)
    catalog = open_catalog(f"{folder}/{{split}}/", split="train")
    top = f"{folder}/train"
    assert [(r.source, r.label) for r in catalog] == [
        (f"{top}/jump high/c.webm", 0),
        (f"{top}/jump high/d/e.avi", 0),
        (f"{top}/run/a.MP4", 1),
        (f"{top}/run/b.mp4", 1),
    ]
    assert (catalog.num_classes, catalog.label_names) == (2, ("jump high", "run"))
    assert "no video in 1 class folders: ['sit']" in caplog.text
    assert "{'.txt': 1, '.jpg': 1}" in caplog.text
    test = open_catalog(f"{folder}/{{split}}", split="test", training=catalog)
    assert [(r.label, test.label_names) for r in test] == [(1, ("jump high", "run"))]
    (folder / "train/classes.txt").write_text("run\njump high\nsit\n")
    assert open_catalog(top, split="train").labels().tolist() == [1, 1, 0, 0]
    assert open_catalog(top, split="train", classes=("run",)).labels().tolist() == [0, 0]
    with pytest.raises(ValueError, match="4 of 4 videos of .*train are in none of the manifests"):
        bad_videos([], (catalog,))


def test_a_class_that_training_does_not_know(folder):
    train = open_catalog(f"{folder}/train", split="train")
    (folder / "test/running").mkdir()
    (folder / "test/running/x.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="label 'running' of 'running/x.mp4' is no known class; "
                       "did you mean 'run'"):  # fmt: skip
        open_catalog(f"{folder}/test", split="test", training=train)


def test_folders_of_another_shape(folder):
    with pytest.raises(ValueError, match=r"seems to hold splits \(test, train\).*{split}"):
        open_catalog(str(folder), split="train")
    (folder / "flat").mkdir()
    with pytest.raises(ValueError, match="names no video; a class folder holds videos"):
        open_catalog(f"{folder}/flat", split="train")
    (folder / "flat/a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="flat holds a.mp4 itself; a class folder"):
        open_catalog(f"{folder}/flat", split="train")
    with pytest.raises(ValueError, match="root='/x' has no meaning for '.*/train'"):
        open_catalog(f"{folder}/train", split="train", root="/x")
    (folder / "mine/train/a").mkdir(parents=True)  # a class that is called train
    (folder / "mine/train/a.mp4").write_bytes(b"")
    (folder / "mine/bus").mkdir()
    (folder / "mine/bus/b.mp4").write_bytes(b"")
    assert open_catalog(f"{folder}/mine", split="train").label_names == ("bus", "train")


def test_the_doctor_reads_what_training_reads(folder, capsys):
    assert doctor.main([f"{folder}/train/", "--workers=1"]) == 1
    assert "4 videos, 4 bad" in capsys.readouterr().out
    entries = video_manifest.read(f"{folder}/train.manifest.jsonl")
    assert f"{folder}/train/jump high/d/e.avi" in entries
    catalog = open_catalog(f"{folder}/train", split="train")
    assert len(bad_videos([f"{folder}/train.manifest.jsonl"], (catalog,))) == 4
    (folder / "a.jsonl").write_text('{"path": "train/run/b.mp4", "caption": "x"}\n')
    assert doctor.main([f"{folder}/a.jsonl", f"--root={folder}"]) == 1
    assert "1 videos, 1 bad" in capsys.readouterr().out
