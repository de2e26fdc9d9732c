import logging

import numpy as np
import pytest

from data_pipelines import loader
from data_pipelines.clips import clips
from data_pipelines.clips.augment import RandAugment
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources import quarantine
from data_pipelines.sources.catalog import ListFile
from fluxjax.tokens.grids import Grid
from tests.data_pipelines import video_files

GRIDS = (Grid(2, 28), Grid(3, 28), Grid(4, 14))
VIDEOS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos")
    for number in range(VIDEOS):
        video_files.write_video(path / f"clip {number}.mp4", frames=20 + number)
    (path / "bad.mp4").write_bytes(b"not a video")
    good = [f"clip {number}.mp4 {number % 4}" for number in range(VIDEOS)]
    (path / "good.txt").write_text("\n".join(good) + "\n")
    (path / "mixed.txt").write_text("\n".join([*good, "bad.mp4 1"]) + "\n")
    return path


def train_clips(folder, name="good.txt", share=1.0, **options):
    settings = {"seed": 3, "videos_per_batch": 4, "slots": 12, "grids": GRIDS} | options
    catalog = ListFile(folder / name, root=str(folder))
    return clips.TrainClips(catalog, bad=quarantine.BadVideos(share), **settings)


def collect(source, first, last, **options):
    return list(loader.train_batches(source, first, last, workers=2, **options))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_batch_is_a_function_of_seed_and_step(folder):
    whole = collect(train_clips(folder), 0, 5)
    resumed = collect(train_clips(folder), 3, 5)
    assert len(whole) == 5 and len(resumed) == 2
    for expected, got in zip(whole[3:], resumed, strict=True):
        assert_same(expected, got)
    other = collect(train_clips(folder, seed=4), 0, 5)
    assert any((a["patches"] != b["patches"]).any() for a, b in zip(whole, other, strict=True))


def test_every_epoch_shows_every_video_once(folder):
    batches = collect(train_clips(folder, videos_per_batch=3), 0, 4)
    seen = np.concatenate([batch["example"] for batch in batches]).reshape(2, VIDEOS)
    assert (np.sort(seen, axis=1) == np.arange(VIDEOS)).all()
    assert (seen[0] != seen[1]).any(), "the second epoch repeats the order of the first"


def test_shapes_labels_and_padding(folder):
    batch = collect(train_clips(folder), 0, 1)[0]
    assert batch["patches"].shape == (4, 12, 588) and batch["patches"].dtype == np.uint8
    assert (batch["grid"] == batch["grid"][0]).all(), "one grid a batch by default"
    np.testing.assert_array_equal(batch["label"], batch["example"] % 4)
    tokens = int(batch["grid"][0].prod())
    assert batch["patches"][:, :tokens].any(axis=-1).all()
    assert not batch["patches"][:, tokens:].any()


def test_grids_can_differ_within_a_batch(folder):
    batches = collect(train_clips(folder, per_clip=True), 0, 4)
    assert any(len(np.unique(batch["grid"], axis=0)) > 1 for batch in batches)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_same_global_batch(folder, processes):
    whole = collect(train_clips(folder), 2, 4)
    parts = [
        collect(train_clips(folder), 2, 4, process=i, processes=processes) for i in range(processes)
    ]
    for step, expected in enumerate(whole):
        joined = {k: np.concatenate([part[step][k] for part in parts]) for k in expected}
        assert_same(expected, joined)


def test_repeated_augmentation_cuts_several_clips_from_one_video(folder):
    source = train_clips(folder, videos_per_batch=2, repeats=2)
    batch = collect(source, 0, 1)[0]
    assert batch["patches"].shape[0] == 4
    assert batch["example"][0] == batch["example"][1] != batch["example"][2]
    assert (batch["patches"][0] != batch["patches"][1]).any(), "both clips have the same crop"


def test_rand_augment_changes_clips_by_its_own_stream(folder):
    # Seed 3 draws a clip that is inverted twice: only what else is drawn would change it.
    options = {"videos_per_batch": 2, "repeats": 2, "flip": False, "seed": 4}
    plain, augmented, again = (
        collect(train_clips(folder, rand_augment=policy, **options), 0, 2)
        for policy in (None, *[RandAugment(7.0, 4, prob=1.0, increasing=True)] * 2)
    )
    for before, after, repeated in zip(plain, augmented, again, strict=True):
        assert_same(after, repeated)
        assert (before["patches"] != after["patches"]).any(axis=(1, 2)).all()
        tokens = int(before["grid"][0].prod())
        assert not after["patches"][:, tokens:].any(), "padding was augmented"
        for name in ("grid", "label", "example"):
            np.testing.assert_array_equal(before[name], after[name])

    def invert(clip, rng):
        return 255 - clip

    inverted = collect(train_clips(folder, rand_augment=invert, **options), 0, 1)[0]["patches"]
    tokens = int(plain[0]["grid"][0].prod())
    # The draws of frames and crops are the plain run's.
    np.testing.assert_array_equal(inverted[:, :tokens], 255 - plain[0]["patches"][:, :tokens])


def test_a_bad_video_is_replaced_counted_and_named(folder, caplog):
    with caplog.at_level(logging.WARNING):
        source = train_clips(folder, "mixed.txt", videos_per_batch=7)
        first = collect(source, 0, 2)
    assert source.bad.count >= 2 and "bad.mp4" in caplog.text
    assert source.bad.reasons.keys() == {str(folder / "bad.mp4")}
    again = collect(train_clips(folder, "mixed.txt", videos_per_batch=7), 0, 2)
    for a, b in zip(first, again, strict=True):
        assert_same(a, b)
        assert VIDEOS not in a["example"], "the bad video is in the batch"


def test_too_many_bad_videos_stop_the_run(folder):
    source = train_clips(folder, "mixed.txt", share=0.05, videos_per_batch=7)
    with pytest.raises(VideoError, match=r"max_bad_share=5%.*bad|bad.*max_bad_share=5%"):
        collect(source, 0, 20)


def test_other_errors_keep_their_type(folder):
    source = train_clips(folder, slots=1)  # no grid fits one slot
    with pytest.raises(ValueError):
        collect(source, 0, 1)


def test_evaluation_counts_every_video_once_whatever_the_batch(folder):
    catalog = ListFile(folder / "mixed.txt", root=str(folder))
    for videos_per_batch, processes in ((4, 1), (4, 2), (7, 1), (16, 4)):
        source = clips.EvalClips(
            catalog, Grid(2, 28), slots=10, bad=quarantine.BadVideos(1.0), clips=2, crops=3
        )
        batches = [
            batch
            for process in range(processes)
            for batch in loader.eval_batches(
                source, videos_per_batch, workers=2, process=process, processes=processes
            )
        ]
        weight = np.concatenate([batch["weight"] for batch in batches])
        example = np.concatenate([batch["example"] for batch in batches])
        label = np.concatenate([batch["label"] for batch in batches])
        assert weight.sum() == VIDEOS + 1
        assert sorted(example[weight > 0]) == list(range(VIDEOS + 1))
        assert label[example == VIDEOS] == -1, "an unreadable video must count as wrong"
        assert batches[0]["patches"].shape[1:] == (6, 10, 588)


def test_views_differ_and_repeat_exactly(folder):
    catalog = ListFile(folder / "good.txt", root=str(folder))
    source = clips.EvalClips(
        catalog, Grid(2, 28), slots=8, bad=quarantine.BadVideos(0.0), clips=2, crops=3
    )
    item = source.item(1)
    assert len(np.unique(item["patches"].reshape(6, -1), axis=0)) == 6
    assert_same(item, source.item(1))


def test_spans_limit_the_frames(folder):
    line = folder / "spans.txt"
    line.write_text("clip 0.mp4 0.4 0.6 1\nclip 0.mp4 100 101 1\n")
    catalog = ListFile(line, root=str(folder))
    source = clips.EvalClips(catalog, Grid(2, 28), slots=8, bad=quarantine.BadVideos(1.0))
    assert source.item(0)["label"] == 1
    assert source.item(1)["label"] == -1 and source.bad.count == 1


def test_batches_that_do_not_divide_are_refused(folder):
    with pytest.raises(ValueError, match="do not divide among 3"):
        collect(train_clips(folder), 0, 1, processes=3)
