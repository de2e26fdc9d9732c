"""Odd and bad videos neither stop nor change training; the doctor tells which they are."""

import json
import os
import threading
import time

import numpy as np
import pytest

from data_pipelines import doctor, loader
from data_pipelines.clips import clips
from data_pipelines.clips.crops import random_resized_crop
from data_pipelines.reading import time_limit
from data_pipelines.reading.errors import ListedAsBadError, VideoError, VideoTimeoutError
from data_pipelines.reading.video import open_video
from data_pipelines.sources import video_manifest
from data_pipelines.sources.catalog import ListFile
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.grids import Grid
from tests.data_pipelines import odd_files, video_files


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder of odd, bad and damaged files with the list that names them, and the reasons."""
    folder = tmp_path_factory.mktemp("zoo")
    good = [*odd_files.GOOD, *odd_files.GOOD_WRITERS]
    for name in good:
        odd_files.write_good(name, folder)
    reasons = odd_files.write_bad(folder)
    damaged = odd_files.write_damaged(folder)
    names = [*good, *reasons, *damaged]
    (folder / "list.txt").write_text("".join(f"{name} {i % 4}\n" for i, name in enumerate(names)))
    return folder, good, reasons, damaged


def training(folder, bad, videos=4, **options):
    settings = {"seed": 3, "videos_per_batch": videos, "slots": 8, "grids": (Grid(2, 28),)}
    return clips.TrainClips(
        ListFile(folder / "list.txt", root=str(folder)), bad=bad, **(settings | options)
    )


def batches(source, steps=6):
    return list(loader.train_batches(source, 0, steps, workers=2))


def test_a_zoo_of_files_trains_the_same_way_every_time(zoo, tmp_path):
    folder, good, reasons, damaged = zoo
    path = tmp_path / "quarantine.jsonl"
    bad = BadVideos(1.0, path)
    first = batches(training(folder, bad, seconds=60.0), steps=12)
    again = batches(training(folder, BadVideos(1.0, path)), steps=12)
    for a, b in zip(first, again, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    names = [*good, *reasons, *damaged]
    shown = {names[i] for batch in first for i in batch["example"]}
    assert shown == {*good, *damaged}, f"48 places show every readable one of {len(names)} files"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    listed = {line["video"]: line for line in lines}
    assert len(lines) == len(listed), "a video is listed once, also by the second run"
    patched = {name for name, line in listed.items() if line.get("damaged")}
    assert listed.keys() - patched == {str(folder / name) for name in reasons}
    assert patched and patched <= {str(folder / name) for name in damaged}
    for name, reason in reasons.items():
        assert reason in listed[str(folder / name)]["reason"]
        assert listed[str(folder / name)]["timed_out"] is False
    assert bad.count >= len(reasons)


@pytest.mark.slow
def test_an_8k_video_is_read(tmp_path):
    with open_video(odd_files.write_8k(tmp_path)) as video:
        frame = video.read([0], size=(36, 64))
        assert (video.height, video.width) == (4320, 7680)
    assert frame[0, ::4, ::4].std() > 40, "the blocks are not there"


def test_a_bad_first_video_is_counted_once(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    video_files.write_video(tmp_path / "good.mp4", frames=3)
    (tmp_path / "list.txt").write_text("bad.mp4 0\ngood.mp4 1\n")
    bad = BadVideos(1.0)
    catalog = ListFile(tmp_path / "list.txt", root=str(tmp_path))
    source = clips.EvalClips(catalog, Grid(2, 28), slots=8, bad=bad)
    (batch,) = loader.eval_batches(source, 2, workers=2)
    assert batch["label"].tolist() == [-1, 1]
    assert (bad.count, bad.tried) == (1, 2)


def slow_file(monkeypatch, seconds):
    """Makes demuxing wait before each packet of files called slow."""
    from data_pipelines.reading import demux

    packets = demux._packets

    def slow(container, stream):
        for packet in packets(container, stream):
            if "slow" in container.name:
                time.sleep(seconds)
            yield packet

    monkeypatch.setattr(demux, "_packets", slow)


def test_decoding_has_a_time_limit(tmp_path, monkeypatch):
    path = video_files.write_video(tmp_path / "slow.mp4")
    slow_file(monkeypatch, 0.05)
    with pytest.raises(VideoTimeoutError, match=r"slow.mp4: took longer than 0.2 s"):
        open_video(path, seconds=0.2)
    open_video(path).close()


def test_reading_stops_at_the_limit_too(tmp_path):
    path = video_files.write_video(tmp_path / "video.mp4")
    with open_video(path, seconds=0.3) as video:
        video.read([0])
        time.sleep(0.4)
        with pytest.raises(VideoTimeoutError):
            video.read([0])


def test_a_read_that_never_returns_is_given_up(monkeypatch):
    monkeypatch.setattr(time_limit, "GRACE_SECONDS", 0.1)
    over = threading.Event()
    try:
        with pytest.raises(VideoTimeoutError, match=r"a.mp4: did not answer within 0.2 s"):
            time_limit.limited(over.wait, 0.1, "a.mp4")
    finally:
        over.set()
    assert time_limit.limited(lambda: 7, 1.0, "a.mp4") == 7
    with pytest.raises(ZeroDivisionError):
        time_limit.limited(lambda: 1 / 0, 1.0, "a.mp4")


def test_a_hanging_video_is_replaced_and_stays_so_after_a_restart(tmp_path, monkeypatch):
    """Whether a video is slow is chance; what a resumed run trains on must not be."""
    for name in ("a.mp4", "slow.mp4", "b.mp4"):
        video_files.write_video(tmp_path / name, frames=6)
    (tmp_path / "list.txt").write_text("a.mp4 0\nslow.mp4 1\nb.mp4 2\n")
    path = tmp_path / "quarantine.jsonl"
    with monkeypatch.context() as patch:
        slow_file(patch, 0.2)
        first = batches(training(tmp_path, BadVideos(1.0, path), 3, seconds=0.5), 3)
    assert all(1 not in batch["example"] for batch in first)
    record = json.loads(path.read_text())
    assert record["timed_out"] and record["video"].endswith("slow.mp4")
    again = batches(training(tmp_path, BadVideos(1.0, path), 3, seconds=0.5), 3)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a["patches"], b["patches"])
    path.unlink()
    (fresh, *_) = batches(training(tmp_path, BadVideos(1.0, path), 3), 3)
    assert 1 in fresh["example"]


def test_too_many_bad_videos_stop_the_run_but_those_of_a_manifest_do_not_count():
    listed = {f"{i}.mp4": "cut off" for i in range(50)}
    bad = BadVideos(0.05, None, listed)
    for name in listed:
        with pytest.raises(ListedAsBadError) as error:
            bad.check(name)
        bad.note(error.value)
    assert (bad.count, bad.tried) == (0, 0)
    for number in range(100):
        bad.note(VideoError("x", "broken") if number % 25 == 24 else None)
    with pytest.raises(VideoError, match=r"y: 6 of 102 videos .*max_bad_share=5%"):
        bad.note(VideoError("x", "broken"))
        bad.note(VideoError("y", "broken"))


def test_an_unfinished_line_of_the_quarantine_is_dropped(tmp_path, caplog):
    path = tmp_path / "quarantine.jsonl"
    path.write_bytes(b'{"video": "a", "reason": "slow", "timed_out": true}\n{"video": "b", "rea')
    bad = BadVideos(1.0, path)
    assert "line 2 is unfinished" in caplog.text
    with pytest.raises(VideoTimeoutError):
        bad.check("a")
    bad.note(VideoError("c", "broken"))
    assert json.loads(path.read_text().splitlines()[-1])["video"] == "c"


def test_the_doctor_describes_every_file(zoo, tmp_path, capsys):
    folder, good, reasons, damaged = zoo
    output = tmp_path / "manifest.jsonl"
    command = [str(folder / "list.txt"), f"--root={folder}", f"--output={output}", "--workers=2"]
    assert doctor.main(command) == 1
    summary = capsys.readouterr().out
    assert f"{len(good) + len(reasons) + len(damaged)} videos, " in summary
    assert f"{len(reasons)} bad, {len(damaged)} with warnings" in summary and "h264" in summary
    entries = video_manifest.read(output)
    assert [entry.video for entry in entries.values() if entry.error is not None] == [
        str(folder / name) for name in reasons
    ], "bad is what training cannot read"
    assert [entry.video for entry in entries.values() if entry.warning is not None] == [
        str(folder / name) for name in damaged
    ]
    for name, reason in reasons.items():
        assert reason in entries[str(folder / name)].error
    cut = entries[str(folder / "tables first.mp4")]
    assert "truncated" in cut.warning and 0 < cut.frames < 40
    broken = entries[str(folder / "broken pictures.mkv")]
    assert broken.warning == "of its 40 frames, 4 are missing and 0 damaged"
    sound = entries[str(folder / "sound.mp4")]
    assert (sound.frames, sound.width, sound.height, sound.codec) == (40, 80, 64, "h264")
    assert (sound.fps, sound.duration, sound.gop) == (25.0, 1.6, 12)
    assert sound.bytes == (folder / "sound.mp4").stat().st_size and len(sound.sha256) == 64
    rotated = entries[str(folder / "rotated.mp4")]
    assert (rotated.width, rotated.height) == (64, 80)


def test_the_doctors_verdict_is_trainings(zoo):
    """File by file: what the doctor calls good is read whatever is drawn, what it calls bad never.

    Drawn are frames, crops, sizes and mirroring, as for training.
    """
    folder, *kinds = zoo
    rng = np.random.default_rng(0)
    for name in [name for names in kinds for name in names]:
        path = str(folder / name)
        verdict = doctor.inspect(path, seconds=60.0).error
        for _ in range(6):
            try:
                with open_video(path, seconds=60.0) as video:
                    frames = rng.integers(0, video.num_frames, 4)
                    box = random_resized_crop(video.height, video.width, rng)
                    clip = video.read(frames, box=box, size=(28, 28), flip=rng.random() < 0.5)
                    assert clip.shape == (4, 28, 28, 3)
                reason = None
            except VideoError as error:
                reason = error.reason
            assert verdict == reason, name


@pytest.mark.parametrize("sampling, readable", [("sparse", True), ("time:0.1", False)])
def test_images_train_where_no_sampler_asks_for_seconds(zoo, tmp_path, sampling, readable):
    (tmp_path / "list.txt").write_text(f"{zoo[0] / 'images'} 0\n" * 2)
    bad = BadVideos(1.0)
    try:
        batches(training(tmp_path, bad, 2, sampling=sampling), 1)
    except VideoError:
        assert not readable and "frame rate" in next(iter(bad.reasons.values()))
    else:
        assert readable and bad.count == 0


def test_a_list_of_good_videos_passes_the_doctor(tmp_path, capsys):
    video_files.write_video(tmp_path / "a.mp4", frames=3)
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    assert doctor.main([str(tmp_path / "list.txt"), f"--root={tmp_path}"]) == 0
    assert (tmp_path / "list.txt.manifest.jsonl").exists()
    assert doctor.main([str(tmp_path / "nowhere.txt")]) == 2
    assert "nowhere.txt" in capsys.readouterr().err


def test_training_trusts_the_manifest(zoo, tmp_path):
    folder, good, reasons, damaged = zoo
    output = tmp_path / "manifest.jsonl"
    names = [*good, *reasons, *damaged]
    entries = [
        video_manifest.Entry(str(folder / name), None if name in good else "bad", frames=1)
        for name in names
    ]
    video_manifest.write(entries, output)
    catalog = ListFile(folder / "list.txt", root=str(folder))
    listed = video_manifest.bad_videos([str(output)], (catalog,))
    bad = BadVideos(0.0, tmp_path / "quarantine.jsonl", listed)
    shown = {names[i] for batch in batches(training(folder, bad), 12) for i in batch["example"]}
    assert shown == {*good} and bad.count == 0
    assert not (tmp_path / "quarantine.jsonl").exists()
    video_manifest.write(entries[1:], output)
    with pytest.raises(ValueError, match=r"1 of \d+ videos .* are in none of the manifests .*one"):
        video_manifest.bad_videos([str(output)], (catalog,))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_memory_stays_flat(zoo):
    """The long run is `python -m benchmarks.bad_videos`; here, a leak of 300 kB a clip shows."""

    def resident_mb():
        with open("/proc/self/status") as file:
            return int(next(x for x in file if x.startswith("VmRSS")).split()[1]) / 1024

    folder, good, reasons, damaged = zoo
    source = training(folder, BadVideos(1.0), seconds=60.0)
    total = len(good) + len(reasons) + len(damaged)
    for position in range(4 * total):
        source.item(position)
    before = resident_mb()
    for position in range(4 * total, 12 * total):
        source.item(position)
    grown = resident_mb() - before
    assert grown < 0.3 * 8 * total, f"{grown:.0f} MB more after {8 * total} videos"
