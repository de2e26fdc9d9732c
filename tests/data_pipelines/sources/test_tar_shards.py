"""Tar files of videos: what is read of them, random access from threads, and odd ones."""

import concurrent.futures
import gzip
import io
import json
import logging
import tarfile

import numpy as np
import pytest

from data_pipelines import doctor
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.video import open_video
from data_pipelines.sources import video_manifest
from data_pipelines.sources.catalog import missing, open_catalog
from data_pipelines.sources.tar_index import tar_members
from data_pipelines.sources.tar_shards import shard_paths
from tests.data_pipelines import video_files


def write_tar(path, *members, form=tarfile.PAX_FORMAT):
    """A tar file of (name, text or bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def train(path, **options):
    return open_catalog(str(path), split="train", **options)


def labelled(count, start=0):
    for number in range(start, start + count):
        yield f"v{number:04}.mp4", bytes([number]) * (1000 + number)
        yield f"v{number:04}.cls", str(number % 3)


def test_labels_captions_and_spans(tmp_path):
    said = {"caption": "rain", "start": 1, "end": 2.5, "weight": 2, "width": 640, "path": "x.mp4"}
    path = write_tar(
        tmp_path / "a.tar",
        ("a/one.mp4", b"1" * 700), ("a/one.cls", "sit\n"), ("a/one.txt", " a dog  sits \n"),
        ("b/one.webm", b"2"), ("b/one.json", json.dumps(said)), ("b/one.cls", "run"),
        ("./two.json", '{"captions": ["x", "y", "x"], "label": "run"}'), ("./two.MP4", b"3" * 512),
        ("two.d/._x.mp4", b"?"), ("__meta__.yaml", "made: today"),
    )  # fmt: skip
    catalog = train(path)
    assert [record.source for record in catalog] == [b"1" * 700, b"2", b"3" * 512]
    assert [record.name for record in catalog] == [
        f"{path}/a/one.mp4", f"{path}/b/one.webm", f"{path}/./two.MP4",
    ]  # fmt: skip
    assert (catalog.label_names, catalog.labels().tolist()) == (("run", "sit"), [1, 0, 0])
    assert [r.captions for r in catalog] == [("a dog  sits",), ("rain",), ("x", "y")]
    assert [(r.start, r.end, r.weight) for r in catalog][:2] == [(None, None, 1.0), (1.0, 2.5, 2.0)]
    (tmp_path / "classes.txt").write_text("sit\nrun\nlie\n")
    assert train(path).labels().tolist() == [0, 1, 1] and train(path).num_classes == 3
    assert train(path, classes=("run",)).labels().tolist() == [0, 0]
    test = write_tar(tmp_path / "other/t.tar", ("v.mp4", b""), ("v.cls", "run"))
    assert open_catalog(test, split="test", training=train(path)).labels().tolist() == [1]


def test_shards_by_range_and_by_star(tmp_path):
    for shard in range(12):
        write_tar(tmp_path / f"train-{shard:04}.tar", *labelled(2, 2 * shard))
    whole = train(tmp_path / "train-{0000..0011}.tar")
    assert len(whole) == 24 and [r.source[0] for r in whole] == list(range(24))
    assert whole.labels().tolist() == [i % 3 for i in range(24)]
    star = open_catalog(f"{tmp_path}/{{split}}-*.tar", split="train")
    assert [r.name for r in star] == [r.name for r in whole]
    part = train(tmp_path / "train-{0009..0011}.tar")
    assert [r.source[0] for r in part] == [18, 19, 20, 21, 22, 23]
    with pytest.raises(FileNotFoundError, match=r"train-0012.tar \(2 of 4 are not there\)"):
        train(tmp_path / "train-{0010..0013}.tar")
    with pytest.raises(FileNotFoundError, match="no tar file .*val-"):
        train(tmp_path / "val-*.tar")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{00..02}.tar", ["a-00.tar", "a-01.tar", "a-02.tar"]),
        ("{0..1}/a-{098..100}.tar", [f"{i}/a-{j:03}.tar" for i in (0, 1) for j in (98, 99, 100)]),
        ("a[1].tar", ["a[1].tar"]),  # a file, no pattern
    ],
)
def test_names_of_shards(tmp_path, monkeypatch, pattern, names):
    monkeypatch.chdir(tmp_path)
    for name in names:
        write_tar(tmp_path / name)
    assert shard_paths(pattern) == names


def test_a_video_is_read_where_it_is_from_any_thread(tmp_path):
    path = write_tar(tmp_path / "a.tar", *labelled(40))
    catalog = train(path)
    rows = np.random.default_rng(0).integers(0, 40, 400).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: catalog[row].source, rows))
    assert read == [bytes([row]) * (1000 + row) for row in rows]
    with open(path, "r+b") as file:
        file.truncate(2048)
    with pytest.raises(VideoError, match="v0039.mp4: the tar file has become shorter"):
        catalog[39]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    names = ["d" * 90 + "/" + "n" * 150, "naïve/日本", "with space/a b", "x" * 99]
    members = [(f"{n}.mp4", n.encode()) for n in names] + [(f"{n}.cls", "0") for n in names]
    catalog = train(write_tar(tmp_path / "a.tar", *members, form=form))
    assert [record.source.decode() for record in catalog] == names
    assert catalog.labels().tolist() == [0] * 4, "members need not lie together"


def test_folders_and_links_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/l.mp4", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "d/a.mp4"
            archive.addfile(info)
        info = tarfile.TarInfo("d/a.mp4")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert [record.source for record in train(tmp_path / "a.tar")] == [b"abc"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.mp4", b""), ("a.cls", "1"), ("b.mp4", b"")], "sample 2: label -1 of .*b.mp4"),
        ([("a.mp4", b"1"), ("a.cls", "1"), ("a.mp4", b"2")], "a.mp4 is there twice"),
        ([("a.mp4", b"1"), ("a.cls", "0"), ("a.cls", "1")], "a.cls is there twice"),
        ([("a.mp4", b"1"), ("a.avi", b"2")], r"2 videos in one sample \(avi, mp4\)"),
        ([("v.1.mp4", b"1"), ("v.2.mp4", b"2")], r"2 videos .*up to their first dot"),
        ([("a.cls", "1")], r"sample 1: .*/a: 0 videos in one sample \(cls\)"),
        ([("a.mp4", b""), ("a.cls", "1"), ("a.json", '{"label": 1}')], "label is said twice"),
        ([("a.mp4", b""), ("a.cls", "")], "label '' is neither a class number nor a name"),
        ([("a.mp4", b""), ("a.cls", "1.5")], "label '1.5' is not an integer"),
        ([("a.mp4", b""), ("a.cls", b"\xff")], ".cls cannot be read: 'utf-8'"),
        ([("a.mp4", b""), ("a.json", "{")], ".json cannot be read: Expecting"),
        ([("a.mp4", b""), ("a.json", "[1]")], r".json must be an object, not \[1\]"),
        ([("a.mp4", b""), ("a.json", '{"start": 3}')], "span 3.0 to None"),
        ([("notes.pdf", b"")], "names no video"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        train(write_tar(tmp_path / "a.tar", *members))


def test_damaged_files(tmp_path, caplog):
    whole = open(write_tar(tmp_path / "whole.tar", *labelled(6)), "rb").read()
    path = tmp_path / "a.tar"

    def refused(content, message, name="a.tar"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            train(tmp_path / name)

    last = tar_members(str(tmp_path / "whole.tar"))[0][-1]
    video = tar_members(str(tmp_path / "whole.tar"))[0][-2]
    refused(whole[: video.offset + 100], "a.tar is (no whole tar file|cut short)")
    refused(whole[: last.offset], "a.tar is (no whole tar file|cut short)")
    refused(whole[: video.offset - 512 + 100], "a.tar is damaged at byte")
    refused(whole[: video.offset - 512] + b"x" * 512 + whole[video.offset :], "damaged at byte")
    refused(b"", "no whole tar file: empty file")
    refused(b"not a tar at all" * 100, "no whole tar file")
    for name in ("a.tar", "a.tar.gz", "a.tgz"):
        refused(gzip.compress(whole), r"is compressed \(gzip\).*plain .tar", name)
    path.write_bytes(whole[: video.offset - 512])  # between two samples: nothing tells but the end
    with caplog.at_level(logging.WARNING):
        assert len(train(path)) == 5
    assert "1 tar files have no end mark, the first is" in caplog.text


@pytest.mark.parametrize("options", [{"root": "/data"}, {"separator": ","}])
def test_options_that_mean_nothing(tmp_path, options):
    path = write_tar(tmp_path / "a.tar", *labelled(2))
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* has no meaning for .*a.tar"):
        train(path, **options)
    with pytest.raises(ValueError, match="tar files are read locally: copy gs://b/a-{0..3}.tar"):
        train("gs://b/a-{0..3}.tar")
    with pytest.raises(ValueError, match="goes down"):
        train(tmp_path / "a-{3..1}.tar")


def test_real_videos_the_doctor_and_manifests(tmp_path, capsys):
    video_files.write_video(tmp_path / "v.mp4", frames=12)
    content = (tmp_path / "v.mp4").read_bytes()
    path = write_tar(tmp_path / "a.tar", ("good.mp4", content), ("bad.mp4", content[:300]))
    catalog = train(path)
    with open_video(catalog[0].source, name=catalog[0].name) as opened:
        frames = opened.read([0, 5, 11])
    assert [video_files.index_in(frame) for frame in frames] == [0, 5, 11]
    assert missing(catalog) == []
    assert doctor.main([path]) == 1
    assert "2 videos, 1 bad" in capsys.readouterr().out
    bad = video_manifest.bad_videos([f"{path}.manifest.jsonl"], (catalog,))
    assert list(bad) == [f"{path}/bad.mp4"]
