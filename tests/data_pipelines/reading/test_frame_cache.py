"""Frames from a cache are those of the file, whatever has become of the cache."""

import concurrent.futures
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading import frame_cache, frame_stores
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.frame_cache import GIB, open_cache
from data_pipelines.reading.video import Box, VideoError, open_video
from tests.data_pipelines import odd_files
from tests.data_pipelines import video_files as files

NOT_KEPT = {"10 bit", "10 bit.mp4", "prores.mov"}  # more than 8 bits a component


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder):
    """One video of 64 x 80 x 40 frames: 307,200 bytes as it is coded."""
    return files.write_video(folder / "video.mp4", options=files.GOP12)


def caches(tmp_path, gib=1.0):
    """A cache in memory; one in a folder, and the same as a later process finds it."""
    memory, where = open_cache("memory", gib), str(tmp_path / "frames")
    yield "memory", lambda: memory
    yield "folder", lambda: open_cache(where, gib)


def kept(cache):
    return cache._videos


def described(source, cache=None, seed=0, **options):
    """All that a video tells, and frames cut and scaled at random."""
    rng = np.random.default_rng(seed)
    with open_video(source, cache=cache, **options) as video:
        told = [video.num_frames, video.height, video.width, video.codec, video.gop]
        try:
            told += [video.fps, video.duration, video.span(0.1, 0.3), *video.times.tolist()]
        except VideoError as error:
            told.append(str(error))
        frames = [video.read(np.arange(video.num_frames))]
        for size in (None, (28, 28), (90, 131)):
            height = int(rng.integers(video.height // 2, video.height)) + 1
            width = int(rng.integers(video.width // 2, video.width)) + 1
            top = int(rng.integers(video.height - height + 1))
            box = Box(top, int(rng.integers(video.width - width + 1)), height, width)
            indices = rng.integers(0, video.num_frames, 5)
            frames.append(video.read(indices, box=box, size=size, flip=bool(rng.integers(2))))
        return told, frames, video.damage()


def assert_same(got, expected):
    assert got[0] == expected[0] and got[2] == expected[2]
    for a, b in zip(got[1], expected[1], strict=True):
        assert a.dtype == b.dtype == np.uint8
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [*files.ENCODED, *files.DERIVED, *odd_files.GOOD, "images"])
def test_frames_are_those_of_the_file(folder, tmp_path, name):
    if name in files.ENCODED or name in files.DERIVED:
        path = files.named(name, folder)
    else:
        path = odd_files.write_good(name, tmp_path)
    for square in (False, True):
        expected = described(path, square_pixels=square)
        for _, cache in caches(tmp_path / str(square)):
            assert_same(described(path, cache(), square_pixels=square), expected)
            again = cache()
            assert kept(again) == (name not in NOT_KEPT)
            assert_same(described(path, again, square_pixels=square), expected)
            assert again._hits == (name not in NOT_KEPT)


def test_bytes_are_known_by_their_content(video, tmp_path):
    expected = described(video, name="a")
    cache = open_cache("memory", 1.0)
    for name in ("a", "b"):
        assert_same(described(video.read_bytes(), cache, name=name), expected)
    assert (kept(cache), cache._hits, cache._readings) == (1, 1, 2)
    with open_video(video.read_bytes(), name="c", cache=cache) as known:
        known.close()
        with pytest.raises(ValueError, match="c is closed"):
            known.read([0])


def test_chunks_are_kept_one_by_one_and_damage_is_told_as_before(tmp_path):
    path = tmp_path / "v.mp4"
    path.mkdir()
    for second in (0, 2, 6):
        files.write_video(path / f"{second}.mp4", 20, rate=10, options=files.GOP12)
    (path / "4.mp4").write_bytes(b"no video")
    expected = described(path)
    assert list(expected[2]) == [str(path / "4.mp4")]
    for _, cache in caches(tmp_path):
        assert_same(described(path, cache()), expected)
        assert kept(cache()) == 3
        assert_same(described(path, cache()), expected)


def test_damaged_and_bad_files_read_as_without_a_cache(tmp_path):
    names = odd_files.write_damaged(tmp_path)
    reasons = odd_files.write_bad(tmp_path)
    for _, cache in caches(tmp_path / "caches"):
        for _ in range(2):
            for name in names:
                path = tmp_path / name
                assert_same(described(path, cache()), described(path))
                for source in (None, cache()):  # only what the reading meets is told
                    with open_video(path, cache=source) as video:
                        first = video.damage()
                        video.read([0])
                        assert video.damage() == first
            for name in reasons:
                with pytest.raises(VideoError) as expected:
                    open_video(tmp_path / name)
                with pytest.raises(VideoError) as got:
                    open_video(tmp_path / name, cache=cache())
                assert str(got.value) == str(expected.value)
        assert kept(cache()) == 0


def test_an_image_that_is_broken_costs_only_clips_that_show_it(tmp_path):
    for number in range(1, 5):
        Image.fromarray(files.picture(number, 32, 48)).save(tmp_path / f"{number}.png")
    source = FrameFolder(tmp_path, "{:d}.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(b"no image")
    cache = open_cache("memory", 1.0)
    with open_video(source, cache=cache) as video:
        assert video.read([0, 1, 3]).shape == (3, 32, 48, 3)
        with pytest.raises(VideoError, match=r"frame image 3\.png"):
            video.read([2])
    (tmp_path / "3.png").write_bytes(whole)
    for _ in range(2):  # repaired, and from then on kept
        assert_same(described(source, cache), described(source))
    assert (kept(cache), cache._hits) == (1, 1)


def test_a_file_that_has_changed_is_decoded_again(tmp_path):
    path = tmp_path / "a.mp4"
    for _, cache in caches(tmp_path):
        used = []
        for frames in (5, 9, 5):
            files.write_video(path, frames)
            os.utime(path, ns=(0, len(used)))
            assert_same(described(path, cache()), described(path))
            used.append(cache()._used)
        assert kept(cache()) == 1 and used[0] == used[2] < used[1], "the old frames are gone"


def test_images_that_have_changed_are_read_again(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.fromarray(files.picture(number, 32, 48)).save(images / f"{number}.png")
    for _, cache in caches(tmp_path):
        before = described(images, cache())[1][0]
        Image.fromarray(files.picture(77 + len(before), 32, 48)).save(images / "1.png")
        os.utime(images / "1.png", ns=(0, 0))
        assert_same(described(images, cache()), described(images))
        os.utime(images / "1.png", ns=(0, 1))
        assert kept(cache()) == 1


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
