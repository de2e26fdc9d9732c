"""Packets that are not one picture each: fields, no picture, repeats, joined streams."""

import pathlib

import av
import numpy as np
import pytest

from data_pipelines import doctor
from data_pipelines.reading import demux
from data_pipelines.reading.frames import Frames
from data_pipelines.reading.h264 import H264Slices
from data_pipelines.reading.hevc import HevcSlices
from data_pipelines.reading.video import open_video
from tests.data_pipelines import h264_files
from tests.data_pipelines import video_files as files

HEVC = {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": files.HEVC}}


def check(path, planned, monkeypatch=None):
    """Frames, one by one and all together, are those of a full decode; the doctor has no doubts."""
    truth = files.convert(files.decode_all(path))
    with open_video(path, strict=True) as video:
        assert video.planned is planned
        assert video.num_frames == len(truth)
        assert np.array_equal(video.read(np.arange(len(truth))), truth)
        if monkeypatch is not None:  # falling back on a full decode would be right, but slow
            monkeypatch.delattr(Frames, "all_frames")
        for index in range(0, len(truth), 3):
            assert np.array_equal(video.read([index])[0], truth[index])
    if monkeypatch is None:
        entry = doctor.inspect(str(path))
        assert (entry.error, entry.warning, entry.frames) == (None, None, len(truth))
    return truth


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("together", [(), range(5, 20), range(30)], ids=["apart", "mixed", "both"])
@pytest.mark.parametrize("skipped", [False, True])
def test_two_fields_are_one_frame(tmp_path, kind, together, skipped, monkeypatch):
    """Thirty frames of constructed content, not sixty."""
    packets = h264_files.field_packets(30, together, skipped)
    path = h264_files.write_packets(tmp_path / f"fields.{kind}", packets)
    for frame, expected in zip(files.decode_all(path), range(16, 136, 4), strict=True):
        rows = h264_files.luma(frame)
        assert np.all(rows[::2] == expected) and np.all(rows[1::2] == expected + (not skipped))
    check(path, True)
    check(path, True, monkeypatch)
    with open_video(path) as video:
        assert video.times == pytest.approx(np.arange(30) / 25)
        assert video.read([7])[0].std() > 0 or skipped


def test_a_field_without_the_other_one_is_decoded_in_order(tmp_path):
    packets = [p for i, p in enumerate(h264_files.field_packets(20)) if i not in (11, 30)]
    path = h264_files.write_packets(tmp_path / "lost.mkv", packets)
    truth = files.convert(files.decode_all(path))
    with open_video(path) as video:
        assert not video.planned and video.num_frames == len(truth)
        assert np.array_equal(video.read(np.arange(len(truth))), truth)


def _unit(kind, path):
    """An end of sequence or an access unit delimiter, as the container stores units."""
    unit = {
        ("end", "h264"): b"\x0a",
        ("end", "hevc"): b"\x48\x01",
        ("delimiter", "h264"): b"\x09\xf0",
        ("delimiter", "hevc"): b"\x46\x01\x50",
        ("message", "h264"): b"\x06\x05\x01\x00\x80",
        ("message", "hevc"): b"\x4e\x01\x05\x01\x00\x80",
    }[kind]
    return b"\0\0\0\1" + unit if path.suffix == ".ts" else len(unit).to_bytes(4, "big") + unit


@pytest.mark.parametrize("kind", ["end", "delimiter", "message"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_packets_without_a_picture_show_nothing(tmp_path, codec, kind, suffix):
    options = {"options": files.OPEN} if codec == "h264" else HEVC
    whole = files.write_video(tmp_path / f"whole.{suffix}", **options)
    unit = _unit((kind, codec), whole)
    path = tmp_path / f"more.{suffix}"
    files.rewrite(whole, path, lambda n, data: [unit, data] if n in (9, 21, 37) else [data])
    # MPEG-TS has no packets: the end goes to its neighbour there, and joins two HEVC sequences.
    planned = (codec, kind, suffix) != ("hevc", "end", "ts")
    assert len(check(path, planned)) == 40


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_joined_hevc_loses_what_decoders_drop(tmp_path, suffix):
    """An end of sequence before an open key frame: five pictures never come out."""
    whole = files.write_video(tmp_path / f"whole.{suffix}", **HEVC)
    end = _unit(("end", "hevc"), whole)
    path = files.rewrite(
        whole, tmp_path / f"joined.{suffix}", lambda n, data: [data + end] if n == 20 else [data]
    )
    assert len(check(path, False)) == 35


def test_hevc_key_frames_that_say_they_were_cut(tmp_path):
    """A CRA made a BLA, as splicers do: what leads it is dropped."""
    whole = files.write_video(tmp_path / "whole.mkv", **HEVC)

    def splice(number, data):
        return [data.replace(b"\x2a\x01", b"\x20\x01", 1) if number == 21 else data]

    path = files.rewrite(whole, tmp_path / "spliced.mkv", splice)
    assert len(check(path, False)) < 40


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_headers_that_allow_reordering_which_never_comes(tmp_path, codec, suffix, monkeypatch):
    if (codec, suffix) == ("hevc", "flv"):
        pytest.skip("FLV holds no HEVC of this kind")
    options = {"options": files.x264("keyint=20:bframes=3")} if codec == "h264" else HEVC
    path = files.write_video(tmp_path / f"p.{suffix}", b_frames=False, **options)
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert times == sorted(times) and container.streams.video[0].codec_context.has_b_frames
    check(path, True)
    check(path, True, monkeypatch)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_decoding_times_are_no_display_times(tmp_path, codec):
    """As in files copied out of AVI: the pictures are reordered, their times are not."""
    options = {"options": files.GOP12} if codec == "h264" else HEVC
    path = files.write_video(tmp_path / "ordered.mp4", **options)
    path.write_bytes(path.read_bytes().replace(b"ctts", b"free"))
    check(path, False)


CODED = {
    "pyramid": {"options": files.x264("keyint=30:bframes=8:b-pyramid=normal:b-adapt=0")},
    "interlaced": {"options": files.x264("interlaced=1:bframes=3:b-adapt=0")},
    "cavlc, slices": {"options": files.x264("cabac=0:bframes=2:b-adapt=0:slices=4")},
    "scaling lists": {"options": files.x264("cqm=jvt:bframes=2:b-adapt=0")},
    "4:4:4": {"options": files.x264("bframes=2:b-adapt=0"), "pixel_format": "yuv444p"},
    "hevc": HEVC,
    "hevc layers": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "temporal-layers=3:log-level=none"},
    },
}


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_slice_headers(tmp_path, name, suffix):
    """What the headers say of the order is what the packets' times say."""
    path = files.write_video(tmp_path / f"v.{suffix}", 40, **CODED[name])
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        reader = {"h264": H264Slices, "hevc": HevcSlices}[context.codec.canonical_name]
        slices, last, told = reader(bytes(context.extradata or b"")), None, []
        for packet in container.demux(video=0):
            if packet.size:
                coded = slices.read(bytes(packet))
                assert coded.shown == 1 and not coded.spliced
                told.append(coded.reordered == (last is not None and packet.pts < last))
                last = packet.pts
    assert len(told) == 40 and all(told)


def test_empty_packets_repeat_the_picture_before(tmp_path):
    """Theora marks an unchanged picture by an empty packet, which is neither damage nor a frame.

    The file is FFmpeg's test picture by libtheora; its pictures 1 and 13 are such repeats.
    """
    path = pathlib.Path(__file__).parents[1] / "theora_repeats.ogv"
    check(path, False)
    with open_video(path) as video:
        assert video.times == pytest.approx(np.array([0, *range(2, 13), 14]) / 25)
        assert video.span(1 / 25, 2 / 25) == (0, 1)


@pytest.mark.parametrize("codec", ["mpeg4", "ffv1", "libx264"])
def test_empty_packets_of_other_codecs(tmp_path, codec, monkeypatch):
    path = files.write_video(tmp_path / "v.mkv", 12, codec=codec)
    with open_video(path) as video:
        truth = video.read(np.arange(12))
    packets = demux._packets

    def with_empty_ones(container, stream):
        for number, packet in enumerate(packets(container, stream)):
            yield packet
            if number in (4, 11):
                yield _empty(packet)

    monkeypatch.setattr(demux, "_packets", with_empty_ones)
    with open_video(path, strict=True) as video:
        assert np.array_equal(video.read(np.arange(12)), truth)
    entry = doctor.inspect(str(path))
    assert (entry.error, entry.warning, entry.frames) == (None, None, 12)


def _empty(packet):
    empty = av.Packet(b"")
    empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
    return empty
