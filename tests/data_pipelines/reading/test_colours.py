"""Colour tags: only matrix and range matter for RGB, and no tag makes a video unreadable."""

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from data_pipelines import doctor
from data_pipelines.reading import pictures
from data_pipelines.reading.video import open_video
from tests.data_pipelines import video_files as files

# (kr, kb) of the matrices of ITU-T H.273; the others are read as BT.601
MATRICES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
MATRICES[10] = MATRICES[9]
BT601 = (0.299, 0.114)

CODECS = {
    "h264": ("mkv", {"options": files.GOP12, "pixel_format": "yuv444p"}),
    "hevc": (
        "mkv",
        {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}},
    ),
    "vp9": ("webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}}),
    "prores": ("mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
}


def tagged(folder, codec, tags):
    """A file of three frames whose header has those tags; FFmpeg's filters write any number."""
    suffix, options = CODECS[codec]
    plain, path = folder / f"plain.{suffix}", folder / f"tagged.{suffix}"
    files.write_video(plain, 3, **options)
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        change = BitStreamFilterContext(f"{codec}_metadata={tags}", stream, copy)
        for packet in [p for p in old.demux(stream) if p.size] + [None]:
            for changed in change.filter(packet):
                changed.stream = copy
                new.mux(changed)
    return path


def rgb(frame, weights):
    """RGB float [H, W, 3] of an 8-bit 4:4:4 frame of limited range, by the definition."""
    y, u, v = (
        np.frombuffer(p, np.uint8).reshape(frame.height, -1)[:, : frame.width].astype(float)
        for p in frame.planes
    )
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    kr, kb = weights
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.clip(np.stack([red, green, blue], -1), 0, 1)


def check(path, matrix):
    with open_video(path) as video:
        got = video.read([1])[0]
    frame = files.decode_all(path)[1]
    if frame.format.name == "yuv444p":
        assert np.abs(got - rgb(frame, MATRICES.get(matrix, BT601))).max() <= 1.5
    assert doctor.inspect(str(path)).error is None
    return got


@pytest.mark.parametrize("matrix", range(18))
def test_matrices(tmp_path, matrix):
    check(tagged(tmp_path, "h264", f"matrix_coefficients={matrix}"), matrix)


@pytest.mark.parametrize(
    "tags",
    [
        "transfer_characteristics=0",
        "transfer_characteristics=3",
        "transfer_characteristics=9",
        "transfer_characteristics=10",
        "transfer_characteristics=18",
        "colour_primaries=0",
        "colour_primaries=10",
        "colour_primaries=22",
    ],
)
def test_transfer_and_primaries_change_nothing(tmp_path, tags):
    check(tagged(tmp_path, "h264", tags), 2)


@pytest.mark.parametrize(
    "codec, tags",
    [
        ("hevc", "matrix_coefficients=0"),
        ("hevc", "matrix_coefficients=8:transfer_characteristics=9"),
        ("hevc", "matrix_coefficients=14:colour_primaries=22"),
        ("prores", "color_primaries=unknown:color_trc=unknown:colorspace=unknown"),
    ],
)
def test_other_codecs_are_read_as_untagged(tmp_path, codec, tags):
    path = tagged(tmp_path, codec, tags)
    with open_video(tmp_path / f"plain.{CODECS[codec][0]}") as video:
        expected = video.read([1])[0]
    assert np.array_equal(check(path, 2), expected)


def test_the_reserved_colour_space_of_vp9(tmp_path):
    """Value 6 of three bits, which no tool writes; they follow the key frame's start code."""
    path = files.write_video(tmp_path / "v.webm", 3, codec="libvpx-vp9", options={"cpu-used": "8"})
    with open_video(path) as video:
        expected = video.read([0])[0]

    def reserved(number, data):
        at = data.find(b"\x49\x83\x42") + 3
        changed = data[:at] + bytes([data[at] & 0x1F | 6 << 5]) + data[at + 1 :]
        return [data if number else changed]

    files.rewrite(path, tmp_path / "reserved.webm", reserved)
    with av.open(str(tmp_path / "reserved.webm")) as container:
        assert next(container.decode(video=0)).colorspace != 2
    with open_video(tmp_path / "reserved.webm") as video:
        assert np.array_equal(video.read([0])[0], expected)
    assert doctor.inspect(str(tmp_path / "reserved.webm")).error is None


def test_the_doctor_converts_what_training_converts(tmp_path, monkeypatch):
    """A picture that cannot be made RGB is bad, also if it is not the first."""
    path = files.write_video(tmp_path / "v.mp4", 5, options=files.GOP12)

    def refuse(self, frame):
        raise ValueError("no such colours")

    monkeypatch.setattr(pictures.Converter, "_graph", refuse)
    assert "no such colours" in doctor.inspect(str(path)).error
