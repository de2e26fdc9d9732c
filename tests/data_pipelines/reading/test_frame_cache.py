"""Frames from a cache are those of the file, whatever has become of the cache."""

import fractions
import os

import numpy as np
import pytest
from PIL import Image

from data_pipelines.reading import kept_frames
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.frame_cache import open_cache
from data_pipelines.reading.video import Box, VideoError, open_video
from tests.data_pipelines import odd_files
from tests.data_pipelines import video_files as files
from tests.data_pipelines.reading.test_streams import write_wide

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
    return cache.videos


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


@pytest.mark.parametrize("siting", [0, 1, 2, 3])
def test_frames_are_those_of_the_file_wherever_its_chroma_samples_lie(tmp_path, siting):
    options = files.x264(f"keyint=12:chromaloc={siting}")
    path = files.write_video(tmp_path / "a.mp4", 8, options=options)
    cache = open_cache("memory", 1.0)
    for _ in range(2):
        assert_same(described(path, cache), described(path))
    assert (kept(cache), cache._hits) == (1, 1)


def test_frames_that_would_be_others_are_not_kept(video, monkeypatch):
    def without_tags(picture, kind):
        picture.colorspace, picture.color_range = 1, kind.color_range  # BT.709
        return picture

    cache = open_cache("memory", 1.0)
    monkeypatch.setattr(kept_frames, "tagged", without_tags)
    assert_same(described(video, cache), described(video))
    assert kept(cache) == 0


def test_pixels_in_two_shapes_are_two_videos(tmp_path):
    path = tmp_path / "wide.mp4"
    write_wide(path, fractions.Fraction(4, 3))
    for _, cache in caches(tmp_path):
        for square in (False, True, False):
            expected = described(path, square_pixels=square)
            assert_same(described(path, cache(), square_pixels=square), expected)
        assert kept(cache()) == 2


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
