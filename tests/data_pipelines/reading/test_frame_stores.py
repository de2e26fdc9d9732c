"""What a cache of frames keeps: its bound, its files, and what goes wrong while it keeps."""

import concurrent.futures
import logging
import os
import pathlib
import signal
import stat
import subprocess
import sys

import pytest

from data_pipelines.reading import frame_cache, frame_stores
from data_pipelines.reading.frame_cache import GIB, open_cache
from data_pipelines.reading.video import open_video
from tests.data_pipelines import video_files as files
from tests.data_pipelines.reading.test_frame_cache import assert_same, caches, described, kept


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One video of 64 x 80 x 40 frames: 307,200 bytes as it is coded."""
    return files.write_video(tmp_path_factory.mktemp("videos") / "video.mp4", options=files.GOP12)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_the_bound_holds_and_the_rest_is_decoded(tmp_path, caplog, where):
    paths = [files.write_video(tmp_path / f"{i}.mp4", 20 + i) for i in range(5)]
    gib = 2.5 * (22 * (64 * 80 * 3 // 2 + 32) + 4096) / GIB
    place = "memory" if where == "memory" else str(tmp_path / "frames")
    cache = open_cache(place, gib)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            for path in paths:
                assert_same(described(path, cache), described(path))
        cache.report()
        cache.report()
    assert kept(cache) == 2 and cache._used <= gib * GIB
    full, first = caplog.messages  # nothing was read before the second report
    assert "is full (config.data.cache_gib): 2 videos fit" in full
    assert "2 videos" in first and "20.0% of 10 readings decoded nothing" in first
    if where == "folder":
        on_disk = sum(path.stat().st_size for path in (tmp_path / "frames").iterdir())
        assert on_disk <= gib * GIB
        later = open_cache(place, gib)
        assert kept(later) == 2 and later._used == on_disk
        assert_same(described(paths[4], later), described(paths[4]))
        assert kept(later) == 2


def test_processes_share_the_bound_of_a_folder(tmp_path, video):
    size = (40 * (64 * 80 * 3 // 2 + 32) + 4096) / GIB
    assert kept_of_one(tmp_path / "a", video, 1.5 * size, sharers=1) == 1
    assert kept_of_one(tmp_path / "b", video, 1.5 * size, sharers=2) == 0


def kept_of_one(folder, video, gib, sharers):
    cache = open_cache(str(folder), gib, sharers)
    open_video(video, cache=cache).close()
    return kept(cache)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
@pytest.mark.parametrize("later", [True, False])
def test_a_damaged_file_of_the_cache_is_replaced(tmp_path, video, caplog, damage, later):
    place = str(tmp_path / "frames")
    cache = open_cache(place, 1.0)
    described(video, cache)
    (path,) = (tmp_path / "frames").iterdir()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(
        {"cut": whole[:-9], "flipped": bytes(flipped), "empty": b"", "foreign": b"?" * 99}[damage]
    )
    os.utime(path, ns=(0, 0))
    cache = open_cache(place, 1.0) if later else cache
    assert_same(described(video, cache), described(video))
    assert "cannot be used" in caplog.text and str(path) in caplog.text
    assert path.read_bytes() == whole and kept(cache) == 1
    assert cache._used >= len(whole)


def test_other_files_of_a_folder_are_neither_counted_nor_touched(tmp_path, video):
    strangers = [tmp_path / name for name in ("mine.tmp", "features.npy", "frames.npy")]
    for path in strangers:
        path.write_bytes(b"a stranger's")
        os.utime(path, (0, 0))
    cache = open_cache(str(tmp_path), 1.0)
    assert kept(cache) == cache._used == 0
    open_video(str(video), cache=cache)
    assert kept(cache) == 1
    assert all(path.read_bytes() == b"a stranger's" for path in strangers)
    (own,) = set(tmp_path.glob("*.npy")) - set(strangers)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(own.stat().st_mode) == 0o666 & ~umask, "others share the folder"
    assert kept(open_cache(str(tmp_path), 1.0)) == 1


def test_files_that_go_while_a_folder_is_opened_are_no_fault(tmp_path, monkeypatch):
    gone = [tmp_path / f"frames-{'0' * 32}.tmp", tmp_path / f"{'0' * 32}.npy"]
    monkeypatch.setattr(pathlib.Path, "glob", lambda self, _: iter(gone))
    assert kept(open_cache(str(tmp_path), 1.0)) == 0


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_read(tmp_path, video):
    place = tmp_path / "frames"
    program = f"""
import os, signal
from data_pipelines.reading import frame_stores
from data_pipelines.reading.frame_cache import open_cache
from data_pipelines.reading.video import open_video
frame_stores.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
open_video({str(video)!r}, cache=open_cache({str(place)!r}, 1.0))
"""
    died = subprocess.run([sys.executable, "-c", program], timeout=120)
    assert died.returncode == -signal.SIGKILL
    (left,) = place.iterdir()
    assert left.suffix == ".tmp"
    cache = open_cache(str(place), 1.0)
    assert left.exists() and kept(cache) == cache._used == 0, "it may be another's, still writing"
    assert_same(described(video, cache), described(video))
    os.utime(left, (0, 0))
    cache = open_cache(str(place), 1.0)
    assert not left.exists() and kept(cache) == 1


def test_a_full_disk_stops_the_keeping_and_nothing_else(tmp_path, video, caplog, monkeypatch):
    cache = open_cache(str(tmp_path / "frames"), 1.0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_stores, "_write", full)
    for _ in range(2):
        assert_same(described(video, cache), described(video))
    (message,) = caplog.messages
    assert "frames are no longer kept" in message and "No space left" in message
    assert kept(cache) == 0 and not list((tmp_path / "frames").iterdir())


def test_a_video_that_takes_too_long_is_read_without_losing_its_time(video, monkeypatch):
    monkeypatch.setattr(frame_cache, "FILL_SECONDS", 0.0)
    cache, tries = open_cache("memory", 1.0), []
    decode_all = frame_cache.decode_all
    monkeypatch.setattr(
        frame_cache, "decode_all", lambda *args: tries.append(1) or decode_all(*args)
    )
    for _ in range(2):
        assert_same(described(video, cache, seconds=60.0), described(video))
    assert kept(cache) == cache._used == 0 and len(tries) == 1


def test_threads_that_meet_in_a_video_are_harmless(tmp_path, video):
    expected = described(video)
    for where, cache in caches(tmp_path):
        alone, one = open_cache("memory", 1.0), cache()
        described(video, alone)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _, c=one: described(video, c), range(8)):
                assert_same(got, expected)
        assert kept(one) == kept(cache()) == 1
        used = cache()._used if where == "folder" else alone._used  # of one video
        assert one._used == used, "it is counted once"


@pytest.mark.parametrize("place", ["file/frames", "file"])
def test_a_folder_that_cannot_be_written_to_is_one_error(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"config\.data\.cache='.*' cannot be written to \("):
        open_cache(str(tmp_path / place), 1.0)
    assert open_cache("", 1.0) is None
