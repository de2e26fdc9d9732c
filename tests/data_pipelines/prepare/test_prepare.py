"""Long videos cut into chunks: the same frames, at the same moments, whole files only."""

import fractions
import json
import os
import subprocess
import sys

import av
import numpy as np
import pytest

from data_pipelines.prepare.__main__ import main
from data_pipelines.prepare.cut import cut
from data_pipelines.prepare.encode import ChunkWriter, Settings
from data_pipelines.reading.video import open_video
from data_pipelines.sources import video_manifest
from tests.data_pipelines import video_files as files

NTSC = fractions.Fraction(30000, 1001)
KEPT = Settings(1.0, short_side=None, crf=None)


def all_frames(source):
    with open_video(source) as video:
        return video.read(np.arange(video.num_frames)), video.times


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 10, "options": files.OPEN},
        {"rate": NTSC, "options": files.GOP12},
        {"rate": 10, "pixel_format": "yuvj420p", "codec": "mjpeg"},
        {"rate": 10, "pixel_format": "yuv444p", "height": 66},
        {"rate": 10, "rotation": (90, False, False)},
        {"rate": 10, "rotation": (180, True, False)},
    ],
    ids=["plain", "29.97", "full range", "4:4:4", "turned", "mirrored"],
)
def test_lossless_chunks_hold_the_frames_of_the_long_video(tmp_path, options):
    kind = ".mkv" if options.get("codec") == "mjpeg" else ".MP4"
    long = files.write_video(tmp_path / f"long{kind}", 75, **options)
    entry = cut(str(long), str(tmp_path / "out"), KEPT)
    assert entry.error is None and entry.frames == 75
    ending = ".MP4" if kind == ".MP4" else ".mp4"
    seconds = -(-75 // round(options["rate"]))
    assert sorted(os.listdir(tmp_path / "out")) == sorted(f"{s}{ending}" for s in range(seconds))
    expected, times = all_frames(long)
    found, there = all_frames(tmp_path / "out")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(there, times, atol=1e-3)
    assert len({frame.tobytes() for frame in found}) == 75


def test_small_chunks_with_frequent_key_frames(tmp_path):
    long = files.write_video(tmp_path / "a.mp4", 80, height=128, width=178, options=files.OPEN)
    settings = Settings(1.5, short_side=64, gop=5)
    entry = cut(str(long), str(tmp_path / "out"), settings)
    assert (entry.height, entry.width, entry.fps, entry.duration) == (64, 88, 25.0, 3.2)
    sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
    assert entry.bytes == sum(sizes) and len(sizes) == 3
    expected, _ = all_frames(long)
    with open_video(tmp_path / "out") as video:
        assert (video.num_frames, video.height, video.width, video.gop) == (80, 64, 88, 5)
        found = video.read(np.arange(80), size=(128, 178)).astype(float)
    # Each is nearer to its own frame than to its neighbours.
    for shift in (-1, 1):
        own, other = (np.abs(found[1:-1] - expected[1 + s : 79 + s]).mean() for s in (0, shift))
        assert own < 0.7 * other
    with av.open(str(tmp_path / "out" / "1.5.mp4")) as chunk:
        keys = [packet.is_keyframe for packet in chunk.demux(video=0) if packet.size]
    assert keys[0] and sum(keys) == 8  # of 37 frames


def test_small_pictures_are_not_enlarged_and_sides_are_even():
    settings = Settings(short_side=288)
    assert settings.size(1080, 1920) == (288, 512) and settings.size(1920, 1080) == (512, 288)
    assert settings.size(240, 321) == (240, 320)
    assert Settings(short_side=None).size(77, 101) == (76, 100)


def test_a_changing_frame_rate_becomes_a_constant_one(tmp_path):
    long = files.named("vfr", tmp_path)
    cut(str(long), str(tmp_path / "out"), Settings(0.5, None, fractions.Fraction(20), crf=None))
    with open_video(long) as video:
        moments = np.arange(round(video.duration * 20)) / 20
        shown = np.searchsorted(video.times, moments + 0.0125, side="right") - 1
    frames, times = all_frames(tmp_path / "out")
    np.testing.assert_allclose(times, moments)
    assert [files.index_in(frame) for frame in frames] == shown.tolist()
    assert len(set(shown.tolist())) < len(shown), "some frames stand longer than 1/20 s"


def test_what_is_missing_is_made_and_nothing_else(tmp_path):
    long, out = files.write_video(tmp_path / "a.mp4", 50, rate=10), tmp_path / "out"
    cut(str(long), str(out), KEPT)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for name in ("1.mp4", "4.mp4"):
        (out / name).unlink()
    cut(str(long), str(out), KEPT)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    kept = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert [name for name in stamps if kept[name] == stamps[name]] == [
        name for name in stamps if name not in ("1.mp4", "4.mp4")
    ]


def test_no_half_written_chunk_is_left(tmp_path, monkeypatch):
    long, out = files.write_video(tmp_path / "a.mp4", 50, rate=10), tmp_path / "out"
    write, calls = ChunkWriter.write, []

    def failing(self, frame):
        calls.append(frame)
        if len(calls) == 25:
            raise OSError("disk full")
        write(self, frame)

    monkeypatch.setattr(ChunkWriter, "write", failing)
    with pytest.raises(OSError, match="disk full"):
        cut(str(long), str(out), KEPT)
    assert sorted(os.listdir(out)) == ["0.mp4", "1.mp4"]
    monkeypatch.undo()
    assert cut(str(long), str(out), KEPT).frames == 50


def test_what_cannot_be_kept_without_loss_is_refused(tmp_path):
    long = files.write_video(tmp_path / "a.mp4", 5, pixel_format="yuv420p10le")
    entry = cut(str(long), str(tmp_path / "out"), KEPT)
    assert "yuv420p10le pixels, 80x64: only 8-bit YUV of even sides is kept" in entry.error
    assert not os.listdir(tmp_path / "out")
    assert cut(str(long), str(tmp_path / "out"), Settings(1.0, None)).error is None


def test_the_command(tmp_path, capsys):
    videos, out = tmp_path / "videos", tmp_path / "out"
    (videos / "P01").mkdir(parents=True)
    for name in ("P01/a.MP4", "b.mp4"):
        files.write_video(videos / name, 25, rate=10)
    (videos / "bad.mp4").write_bytes(b"no video")
    command = [str(videos), str(out), "--seconds=1", "--short-side=32", "--workers=2"]
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert "2 videos" in shown and f"bad: {out / 'bad.mp4'}: Invalid data" in shown
    assert sorted(os.listdir(out)) == ["P01", "b.mp4", "manifest.jsonl", "prepare.json"]
    entries = video_manifest.read(out / "manifest.jsonl")
    assert entries[str(out / "P01" / "a.MP4")].frames == 25
    assert entries[str(out / "bad.mp4")].error.startswith("Invalid data")
    (videos / "bad.mp4").unlink()
    (out / "b.mp4" / "1.mp4").unlink()
    assert main(command) == 0 and (out / "b.mp4" / "1.mp4").exists()
    assert main([*command, "--gop=5"]) == 2
    assert "choose another folder, or the same options" in capsys.readouterr().err


@pytest.mark.parametrize("there", [False, True])
def test_a_command_without_videos_ends_in_one_line(tmp_path, there):
    source = tmp_path / "videos"
    if there:
        source.mkdir()
    command = [sys.executable, "-m", "data_pipelines.prepare", source, tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and str(source) in line


def test_lists_are_cut_below_their_root(tmp_path, capsys):
    root, out = tmp_path / "videos", tmp_path / "out"
    (root / "x").mkdir(parents=True)
    files.write_video(root / "x" / "a.mp4", 12, rate=10)
    (tmp_path / "list.jsonl").write_text(
        "".join(json.dumps({"video": "x/a.mp4", "start": s, "end": s + 0.5}) + "\n" for s in (0, 1))
    )
    command = [str(tmp_path / "list.jsonl"), str(out), f"--root={root}", "--workers=1"]
    assert main([*command, "--seconds=0.5", "--short-side=0"]) == 0
    assert sorted(os.listdir(out / "x" / "a.mp4")) == ["0.5.mp4", "0.mp4", "1.mp4"]
    (tmp_path / "list.txt").write_text("/elsewhere/a.mp4 0\n")
    assert main([str(tmp_path / "list.txt"), str(out), f"--root={root}"]) == 2
    assert "/elsewhere/a.mp4 lies outside; give the folder" in capsys.readouterr().err
