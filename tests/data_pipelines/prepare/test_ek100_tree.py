"""A tree like EPIC-KITCHENS-100's, made by `prepare` and then damaged, read by the pipelines."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines import loader
from data_pipelines.clips.examples import EvalExamples, TrainExamples
from data_pipelines.clips.joint import Augmentation
from data_pipelines.clips.views import eval_views
from data_pipelines.prepare.cut import cut
from data_pipelines.prepare.encode import Settings
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import Grid
from tests.data_pipelines import video_files as files

RATE, SECONDS, CHUNK, FRAMES = 10, 9, 1.5, 15
SPANS = [(start, start + 0.9) for start in np.arange(0, 8.1, 0.45)]  # of each video
GRID = Grid(4, 28)
SPEC = ExampleSpec((ClipSpec((GRID,)),), targets=())
VIDEOS = ("P01/P01_01.MP4", "P02/P02_07.MP4")
HEADING = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """(long videos' folder, chunks' folder, csv)."""
    folder = tmp_path_factory.mktemp("ek100")
    rows = [HEADING]
    for video in VIDEOS:
        (folder / "long" / video).parent.mkdir(parents=True)
        files.write_video(folder / "long" / video, RATE * SECONDS, rate=RATE, options=files.GOP12)
        entry = cut(
            str(folder / "long" / video), str(folder / "chunks" / video),
            Settings(CHUNK, short_side=None, crf=None),
        )  # fmt: skip
        assert entry.frames == RATE * SECONDS
        person, name = video.removesuffix(".MP4").split("/")
        rows += [
            f"{name}_{i},{person},{name},00:00:{a:05.2f},00:00:{b:05.2f},do {i}"
            for i, (a, b) in enumerate(SPANS)
        ]
    (folder / "EPIC_100_retrieval_train.csv").write_text("\n".join(rows) + "\n")
    return folder, str(folder / "EPIC_100_retrieval_train.csv")


def catalog_of(tree, kind):
    folder, path = tree
    return open_catalog(path, split="train", root=str(folder / kind))


def views(record):
    return eval_views(record, GRID, "uniform")[0]


@pytest.fixture(scope="module")
def damaged(tree):
    """The first video has a missing, a truncated and a short chunk; the second is whole."""
    folder, _ = tree
    first = folder / "chunks" / VIDEOS[0]
    (first / "3.MP4").unlink()
    whole = (first / "4.5.MP4").read_bytes()
    (first / "4.5.MP4").write_bytes(whole[: len(whole) // 2])
    with_one_less = Settings(CHUNK, None, crf=None)
    short = files.write_video(folder / "short.mp4", FRAMES - 1, rate=RATE)
    cut(str(short), str(folder / "short"), with_one_less)
    (folder / "short" / "0.mp4").rename(first / "6.MP4")
    return tree


def test_clips_of_chunks_are_those_of_the_long_files(tree):
    for long, chunks in zip(catalog_of(tree, "long"), catalog_of(tree, "chunks"), strict=True):
        np.testing.assert_array_equal(views(chunks), views(long))


def test_lost_chunks_cost_their_own_seconds(damaged, tmp_path):
    long, chunks = (catalog_of(damaged, kind) for kind in ("long", "chunks"))
    path = tmp_path / "quarantine.jsonl"
    bad = BadVideos(1.0, path, videos=len(chunks))
    examples = EvalExamples(chunks, SPEC, bad, sampling="uniform")
    batches = list(loader.eval_batches(examples, 8, workers=2))
    seen = {
        int(i): (bool(ok), clip[0])
        for batch in batches
        for i, ok, clip in zip(batch["example"], batch["readable"], batch["video"], strict=True)
    }
    for i in range(len(long)):
        start, end = long[i].start, long[i].end
        touched = i < len(SPANS) and start < 7.5 and end > 3
        readable, clip = seen[i]
        # Lost are the spans inside a chunk that is missing or unreadable.
        inside = i < len(SPANS) and any(s <= start and end <= s + CHUNK for s in (3, 4.5))
        assert readable == (not inside), (start, end)
        if not touched:
            np.testing.assert_array_equal(clip, views(long[i]))
    folder = damaged[0] / "chunks" / VIDEOS[0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    patched = {line["video"]: line["reason"] for line in lines if line.get("damaged")}
    assert patched.keys() >= {str(folder / "3.MP4"), str(folder / "6.MP4")}
    assert patched[str(folder / "3.MP4")] == "missing"
    assert patched[str(folder / "6.MP4")] == "holds 14 frames, 15 are needed"
    told = " ".join(f"{line['video']} {line['reason']}" for line in lines)
    assert "4.5.MP4" in told and "P02" not in told and bad.damaged > 0


def test_training_goes_on_around_them(damaged, tmp_path):
    chunks = catalog_of(damaged, "chunks")
    bad = BadVideos(0.5, tmp_path / "quarantine.jsonl", videos=len(chunks))
    examples = TrainExamples(
        chunks, SPEC, seed=0, videos_per_batch=8, bad=bad,
        augmentation=Augmentation((0.5, 1.0), flip=False), sampling="uniform",
    )  # fmt: skip
    steps = list(loader.train_batches(examples, 0, 5, workers=2))
    again = list(loader.train_batches(dataclasses.replace(examples), 0, 5, workers=2))
    for a, b in zip(steps, again, strict=True):
        np.testing.assert_array_equal(a["video"], b["video"])
    assert bad.count > 0 and (tmp_path / "quarantine.jsonl").exists()
