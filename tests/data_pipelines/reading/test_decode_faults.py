"""Bad files give frames or `VideoError`: nothing else, and no leaks."""

import gc
import os
import pathlib
import pickle
import socket

import av
import numpy as np
import pytest

from data_pipelines.reading import demux
from data_pipelines.reading.video import VideoError, open_video
from tests.data_pipelines import video_files as files


@pytest.fixture(scope="session")
def video_file(tmp_path_factory):
    """Function: name in `files.ENCODED` or `files.DERIVED` -> path."""
    folder = tmp_path_factory.mktemp("videos")
    return lambda name: files.named(name, folder)


def _truncated(tmp_path) -> tuple[pathlib.Path, int]:
    """A file whose tables come first and whose pictures end in the middle of a packet."""
    whole = tmp_path / "whole.mp4"
    files.write_video(whole, options=files.GOP12, muxing={"movflags": "faststart"})
    data, path = whole.read_bytes(), tmp_path / "truncated.mp4"
    path.write_bytes(data[: len(data) * 2 // 3])
    return path, len(files.decode_all(path))


def test_truncated(tmp_path):
    path, decodable = _truncated(tmp_path)
    assert 10 < decodable < 39
    truth = files.convert(files.decode_all(path))
    with open_video(path) as video:
        assert video.num_frames > decodable
        held = [files.index_in(frame) for frame in video.read(np.arange(video.num_frames))]
        shown = sorted({files.index_in(frame) for frame in truth})
        nearest = [max(s for s in shown if s <= i) for i in range(video.num_frames)]
        assert held == nearest
        assert video.missing_frames == video.num_frames - decodable
        last = video.read([video.num_frames - 1])
        assert files.index_in(last[0]) == nearest[-1]
    with pytest.raises(VideoError, match=r"truncated: \d+ of its 40 frames are missing"):
        open_video(path, strict=True)


@pytest.mark.parametrize("broken", [(0, 1), (7, 8, 20), (39,)])
def test_missing_frames_are_their_nearest_earlier_neighbours(video_file, tmp_path, broken):
    path = tmp_path / "broken.mkv"
    with av.open(str(video_file("mjpeg"))) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            changed = av.Packet(b"not a picture" if number in broken else bytes(packet))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = True, copy
            new.mux(changed)
    intact = [i for i in range(40) if i not in broken]
    expected = [max((i for i in intact if i <= k), default=intact[0]) for k in range(40)]
    with open_video(path) as video:
        order = np.random.default_rng(0).permutation(40)
        assert [files.index_in(f) for f in video.read(order)] == [expected[k] for k in order]
        assert video.missing_frames == len(broken)
    with open_video(path, strict=True) as video:
        with pytest.raises(VideoError, match=f"{len(broken)} are missing"):
            video.read(np.arange(40))


def test_playlists_do_not_reach_the_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / "list.m3u8"
        line = f"http://127.0.0.1:{server.getsockname()[1]}/part.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{line}\n#EXT-X-ENDLIST\n")
        with pytest.raises(VideoError):
            open_video(path)
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()


def _damaged(video_file, tmp_path) -> pathlib.Path:
    """Random bytes within the pictures of the second half of an MKV (whose tables stay intact)."""
    data = bytearray(video_file("mkv").read_bytes())
    rng = np.random.default_rng(5)
    for at in rng.integers(len(data) * 5 // 8, len(data) * 7 // 8, 12):
        data[at] ^= 0x55
    path = tmp_path / "damaged.mkv"
    path.write_bytes(bytes(data))
    return path


def test_damage_is_counted_or_refused(video_file, tmp_path):
    path = _damaged(video_file, tmp_path)
    with open_video(path) as video:
        everything = video.read(np.arange(video.num_frames))
        assert video.corrupt_frames + video.missing_frames > 0
        for index in range(0, video.num_frames, 3):  # however a frame is asked for, it is the same
            assert np.array_equal(video.read([index])[0], everything[index])
    with open_video(path, strict=True) as video:
        video.read([0, 5])  # the first half is whole
        with pytest.raises(VideoError, match="missing and .* damaged"):
            video.read(np.arange(video.num_frames))


def test_random_damage_gives_frames_or_video_error(video_file):
    rng = np.random.default_rng(0)
    outcomes = []
    for name in ("gop 12", "open gop", "ts", "vp9", "avi, b-frames", "edit list"):
        whole = video_file(name).read_bytes()
        for _ in range(8):
            data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
            for at in rng.integers(0, len(data), 10):
                data[at] = rng.integers(256)
            try:
                with open_video(bytes(data)) as video:
                    frames = video.read(np.arange(video.num_frames))
                    assert len(frames) == video.num_frames == len(video.times) > 0
                    outcomes.append("frames")
            except VideoError as error:
                assert error.name == "<bytes>" and error.reason
                outcomes.append("error")
    assert {"frames", "error"} == set(outcomes)


def _bad_files(video_file, folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
    """What is wrong -> (path, the reason to expect)."""
    contents = {
        "empty": (b"", "empty file"),
        "garbage": (np.random.default_rng(0).bytes(5000), "Invalid data"),
        "text": (b"This is not a video.\n" * 3, "Invalid data"),
        "playlist": (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/x.ts\n#EXT-X-ENDLIST\n", "."),
        "tables missing": (video_file("gop 12").read_bytes()[:3000], "Invalid data"),
        "zeros": (bytes(5000), "Invalid data"),
    }
    found = {"folder": (folder, "is a directory"), "nowhere": (folder / "no.mp4", "no such file")}
    for name, (data, reason) in contents.items():
        path = folder / f"{name} ünï.mp4"
        path.write_bytes(data)
        found[name] = (path, reason)
    found["audio"] = (files.write_audio(folder / "audio.mp4"), "no video stream")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.mp4")
        found["pipe"] = (folder / "pipe.mp4", "not a regular file")
    return found


def test_bad_files_raise_video_error(video_file, tmp_path):
    for what, (path, reason) in _bad_files(video_file, tmp_path).items():
        for source in (path, str(path)):
            with pytest.raises(VideoError, match=reason) as caught:
                open_video(source)
            assert caught.value.name == str(path), what
            assert str(path) in str(caught.value)
        if path.is_file():
            with pytest.raises(VideoError) as caught:
                open_video(path.read_bytes(), name="clip 7")
            assert str(caught.value).startswith("clip 7: "), what
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.reason) == (caught.value.name, caught.value.reason)


def test_large_pictures_are_refused_before_decoding(video_file):
    with pytest.raises(VideoError, match="80x64 is more than max_pixels = 5000"):
        open_video(video_file("gop 12"), max_pixels=5000)
    with open_video(video_file("gop 12"), max_pixels=80 * 64) as video:
        assert video.num_frames == 40


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_no_file_stays_open(video_file, tmp_path, monkeypatch):
    paths = [path for path, _ in _bad_files(video_file, tmp_path).values()]
    monkeypatch.setattr(demux, "HELD_BYTES", 0)
    gc.disable()  # closing must not wait for the collector
    try:
        before = len(os.listdir("/proc/self/fd"))
        for path in [*paths, video_file("gop 12"), video_file("mpeg-2 ts")]:
            try:
                with open_video(path) as video:
                    video.read([20])
            except VideoError:
                pass
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_damage_prints_nothing(video_file, tmp_path, capfd):
    test_damage_is_counted_or_refused(video_file, tmp_path)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
