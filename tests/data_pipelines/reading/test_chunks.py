"""Folders of chunks named by their start second, as AVION lays out long videos."""

import numpy as np
import pytest

from data_pipelines.reading.decode import VideoFile
from data_pipelines.reading.folders import ChunkFolder
from data_pipelines.reading.video import VideoError, open_video
from tests.data_pipelines import video_files as files


def write_chunks(folder, lengths, seconds=2, rate=10, kind=".mp4"):
    """Chunks at 0, 2, 4, .. s; each shows its own indices from 0 on. A length of None: no chunk."""
    folder.mkdir()
    for number, frames in enumerate(lengths):
        if frames is not None:
            path = folder / f"{number * seconds:g}{kind}"
            files.write_video(path, frames, rate=rate, options=files.GOP12)
    return folder


def shown(video, indices):
    return [files.index_in(frame) for frame in video.read(indices)]


def test_frames_run_on_from_chunk_to_chunk(tmp_path):
    path = write_chunks(tmp_path / "VIDEO.mp4", [20, 20, 20, 20, 20, 7])
    with open_video(path) as video:
        assert video.num_frames == 107 and video.fps == 10
        assert shown(video, [0, 19, 20, 21, 59, 60, 106]) == [0, 19, 0, 1, 19, 0, 6]
        assert video.times[45] == pytest.approx(4.5) and video.duration == pytest.approx(10.7)
        assert video.span(3.5, 4.5) == (35, 45)
        assert shown(video, np.arange(*video.span(3.5, 4.5))) == [15, 16, 17, 18, 19, 0, 1, 2, 3, 4]


def test_only_the_chunks_of_wanted_frames_are_opened(tmp_path, monkeypatch):
    path = write_chunks(tmp_path / "v.mp4", [20] * 6)
    opened, start = [], VideoFile.__init__

    def noting(self, source, *args, **options):
        opened.append(source.rsplit("/", 1)[1])
        start(self, source, *args, **options)

    monkeypatch.setattr(VideoFile, "__init__", noting)
    with open_video(path) as video:
        assert opened == ["0.mp4", "10.mp4"]  # size and frame rate, and the length
        opened.clear()
        video.read([35, 45, 36])
        video.read([36, 46, 59])  # of the same chunks: they are still open
        assert opened == ["2.mp4", "4.mp4"]
        opened.clear()
        video.scan()
        assert opened == ["0.mp4", "2.mp4", "4.mp4", "6.mp4", "8.mp4", "10.mp4"]
        assert len(video._open) == 1


def test_frames_keep_their_time_where_chunks_begin_between_two(tmp_path):
    path = write_chunks(tmp_path / "v", [15, 15, 15], seconds=1.5)
    with open_video(ChunkFolder(path, fps=9.7)) as video:
        # Chunks begin at 0, 14.55 and 29.1 frames.
        assert video.num_frames == 30 + 15
        assert shown(video, [0, 14, 15, 29, 30, 44]) == [0, 14, 0, 14, 0, 14]
        assert video.times[40] == pytest.approx(40 / 9.7)


def test_a_gap_between_chunks_holds_no_frames(tmp_path):
    path = write_chunks(tmp_path / "v.MP4", [20, None, 20, 15], kind=".MP4")
    with open_video(path) as video:
        assert video.num_frames == 55
        assert video.times[[19, 20]] == pytest.approx([1.9, 4.0])
        assert not video.damage()
        assert video.span(3, 4.5) == (20, 25) and video.span(1.95, 4) == (19, 20)
        assert video.damage() == {str(path / "2.MP4"): "missing"}
        with pytest.raises(VideoError, match="v.MP4: chunk 2.MP4: missing"):
            video.span(2.5, 3.5)
        assert shown(video, [19, 20, 54]) == [19, 0, 14]
    (path / "0.MP4").unlink()
    with open_video(path) as video:  # a cut-out of a long video keeps its clock
        assert video.times[0] == 4 and video.span(4.5, 5) == (5, 10)


def test_a_chunk_that_is_too_short_stands_still(tmp_path):
    path = write_chunks(tmp_path / "v", [20, 18, 20])
    with open_video(path) as video:
        assert video.num_frames == 60 and shown(video, [36, 40]) == [16, 0]
        assert not video.damage(), "none of what it lacks was wanted"
        assert shown(video, [37, 38, 39, 40]) == [17, 17, 17, 0]
        assert video.damage() == {str(path / "2.mp4"): "holds 18 frames, 20 are needed"}
    with open_video(path, strict=True) as video:
        assert shown(video, [37]) == [17]
        with pytest.raises(VideoError, match="v: chunk 2.mp4: holds 18 frames, 19 are needed"):
            video.read([38])


def test_one_chunk_and_options(tmp_path):
    path = write_chunks(tmp_path / "v", [30])
    with open_video(path, strict=True) as video:
        assert video.num_frames == 30 and shown(video, [29]) == [29]
    with pytest.raises(VideoError, match=r"v: chunk 0.mp4: 80x64 is more than max_pixels"):
        open_video(path, max_pixels=100)


def test_truncated_chunks_are_told(tmp_path):
    path = write_chunks(tmp_path / "v", [20, 20, 20])
    whole = files.write_video(
        tmp_path / "whole.mp4", 20, rate=10, options=files.GOP12, muxing={"movflags": "faststart"}
    ).read_bytes()
    (path / "2.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    with open_video(path) as video:
        video.scan()
        assert video.defects().startswith("chunk 2.mp4: truncated: ")


def test_a_bad_chunk_costs_its_own_frames(tmp_path):
    path = write_chunks(tmp_path / "v", [20] * 5)
    (path / "2.mp4").write_bytes(b"no video")
    files.write_video(path / "4.mp4", 20, height=32, width=80, rate=10)
    with open_video(path, name="clip 3") as video:
        assert shown(video, [1, 61]) == [1, 1] and not video.damage()
        # In its place stands the nearest earlier frame that was asked for, else the next.
        assert shown(video, [65, 25, 19, 30, 3, 50]) == [5, 19, 19, 19, 3, 19]
        assert shown(video, [45, 66, 61]) == [1, 6, 1]
        assert set(video.damage()) == {"clip 3/2.mp4", "clip 3/4.mp4"}
        assert video.damage()["clip 3/4.mp4"] == "is 80x32, the first one 80x64"
        with pytest.raises(VideoError, match="clip 3: chunk 2.mp4: Invalid data"):
            video.read([25, 26])
    with open_video(path) as video:
        video.scan()
        assert "chunk 2.mp4: Invalid data" in video.defects()
    with open_video(path, strict=True) as video:
        with pytest.raises(VideoError, match="chunk 2.mp4"):
            video.read([1, 25])


def test_the_ends_may_be_bad(tmp_path):
    path = write_chunks(tmp_path / "v", [20] * 5)
    for name in ("0.mp4", "6.mp4", "8.mp4"):
        (path / name).write_bytes(b"")
    with open_video(path) as video:
        assert video.num_frames == 40 and (video.times[0], video.duration) == (2, 6)
        assert shown(video, [0, 39]) == [0, 19] and not video.damage()
        assert video.span(1, 3) == (0, 10) and video.span(5, 9) == (30, 40)
        assert video.damage() == {
            str(path / name): "empty file" for name in ("0.mp4", "6.mp4", "8.mp4")
        }
        for seconds in ((0.5, 1), (6.5, 7), (9, 9.5)):
            with pytest.raises(VideoError, match="chunk [068].mp4: empty file"):
                video.span(*seconds)
        with pytest.raises(VideoError, match="span starts at 11 s, the video ends at 6.000 s"):
            video.span(11, 12)
    with pytest.raises(VideoError, match="v: chunk 0.mp4: empty file"):
        open_video(path, strict=True)
    for name in ("2.mp4", "4.mp4"):
        (path / name).write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"v: chunk \d.mp4: "):
        open_video(path)


def test_folders_that_are_no_chunks(tmp_path):
    path = write_chunks(tmp_path / "v", [2])
    (path / "0.mkv").write_bytes(b"")
    with pytest.raises(VideoError, match=r"0.mkv and 0.mp4 begin at once"):
        open_video(ChunkFolder(path))
    with pytest.raises(VideoError, match="is a directory, but no frame images in it, and no file"):
        open_video(tmp_path)
    with pytest.raises(VideoError, match="no file is named by its start second"):
        open_video(ChunkFolder(tmp_path))
