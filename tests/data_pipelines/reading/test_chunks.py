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


def avions(frame, starts, seconds, fps):
    """(chunk, frame in it) by the arithmetic of AVION's loader."""
    for start in starts:
        if int(start * fps) <= frame < int((start + seconds) * fps):
            return start, int(frame - start * fps)
    return None


def test_frame_numbers_are_avions(tmp_path):
    path = write_chunks(tmp_path / "v", [15, 15, 15], seconds=1.5)
    with open_video(ChunkFolder(path, fps=9.7)) as video:
        # starts * fps: 0, 14.55, 29.1
        assert video.num_frames == 29 + 15
        for frame in range(43):
            start, there = avions(frame, (0, 1.5, 3), 1.5, 9.7)
            assert video._starts[video._chunk_of[frame]] == start
            assert shown(video, [frame]) == [min(there, 14)], frame
        assert video.times[40] == pytest.approx(40 / 9.7)


def test_a_gap_between_chunks_holds_no_frames(tmp_path):
    path = write_chunks(tmp_path / "v.MP4", [20, None, 20, 15], kind=".MP4")
    with open_video(path) as video:
        assert video.num_frames == 55
        assert video.times[[19, 20]] == pytest.approx([1.9, 4.0])
        assert video.span(3, 4.5) == (19, 25)  # the last frame before the gap still stands
        assert shown(video, [19, 20, 54]) == [19, 0, 14]
    (path / "0.MP4").unlink()
    with open_video(path) as video:  # a cut-out of a long video keeps its clock
        assert video.times[0] == 4 and video.span(4.5, 5) == (5, 10)


def test_a_chunk_that_is_too_short_stands_still(tmp_path):
    path = write_chunks(tmp_path / "v", [20, 18, 20])
    with open_video(path) as video:
        assert video.num_frames == 60 and shown(video, [37, 38, 39, 40]) == [17, 17, 17, 0]


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


def test_bad_chunks_are_named(tmp_path):
    path = write_chunks(tmp_path / "v", [20] * 4)
    (path / "2.mp4").write_bytes(b"no video")
    files.write_video(path / "4.mp4", 20, height=32, width=80, rate=10)
    with open_video(path, name="clip 3") as video:
        assert shown(video, [1, 61]) == [1, 1]
        with pytest.raises(VideoError, match="clip 3: chunk 2.mp4: Invalid data"):
            video.read([1, 25])
        with pytest.raises(VideoError, match="chunk 4.mp4 is 80x32, the first one 80x64"):
            video.read([45])
        with pytest.raises(VideoError, match="clip 3: chunk 2.mp4"):
            video.scan()
    (path / "6.mp4").write_bytes(b"")
    with pytest.raises(VideoError, match="chunk 6.mp4: empty file"):
        open_video(path)
    (path / "0.mkv").write_bytes(b"")
    with pytest.raises(VideoError, match=r"0.mkv and 0.mp4 begin at once"):
        open_video(ChunkFolder(path))
    with pytest.raises(VideoError, match="is a directory, but no frame images in it, and no file"):
        open_video(tmp_path)
    with pytest.raises(VideoError, match="no file is named by its start second"):
        open_video(ChunkFolder(tmp_path))
