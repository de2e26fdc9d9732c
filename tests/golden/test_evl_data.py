"""EVL's frames, crops and clips against the official loader's."""

import numpy as np
import pytest

from data_pipelines import loader
from data_pipelines.clips.clips import EvalClips, TrainClips
from data_pipelines.clips.crops import long_side_view, view_crop
from data_pipelines.clips.sampling import frame_sampler, sparse_train_frames
from data_pipelines.reading.arrays import BlankVideo, bilinear
from data_pipelines.sources.array_records import ArrayCatalog
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.tokens import CLIP_PIXELS
from tests.golden import fixture

CASE = fixture("evl", "evl_frame")
LENGTHS = CASE.meta["lengths"]


class Draws:
    """A generator that notes the ranges it is asked for, and gives their upper ends."""

    def __init__(self):
        self.asked = []

    def integers(self, low, high=None, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        self.asked.append((low, high))
        return high if endpoint else high - 1


@pytest.mark.parametrize(("frames", "stride", "views"), CASE.meta["combos"])
def test_dense_test_frames(frames, stride, views):
    test = frame_sampler(f"dense:{stride}").test
    for length in LENGTHS:
        expected = CASE.outputs[f"eval_idx/f{frames}_s{stride}_v{views}/len{length}"]
        found = [test(length, frames, clip, views) for clip in range(views)]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("frames", "stride"), [(8, 16), (16, 16), (4, 4), (32, 8)])
def test_dense_train_frames(frames, stride):
    train = frame_sampler(f"dense:{stride}").train
    for length in LENGTHS:
        expected = CASE.outputs[f"train_idx/f{frames}_s{stride}/len{length}"]
        high = int(CASE.outputs[f"train_idx_high/f{frames}_s{stride}/len{length}"])
        draws = Draws()
        found = train(length, frames, draws)
        if draws.asked:
            assert draws.asked == [(0, high)]
            found = found - found[0] + expected[0]  # another generator draws another start
        else:
            assert high in (-1, 1)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("frames", [4, 8, 16, 32])
def test_tsn_frames(frames):
    """TSN's segments are the sampler called sparse; it works in evaluation too."""
    for length in LENGTHS:
        expected = CASE.outputs[f"tsn_bounds/f{frames}/len{length}"]
        draws = Draws()
        sparse_train_frames(length, frames, draws)
        ((low, high),) = draws.asked
        np.testing.assert_array_equal(np.stack([low, high], axis=1), expected)
        sampled = CASE.outputs[f"tsn_idx/f{frames}/len{length}"]
        assert np.all((low <= sampled) & (sampled <= high))
        tested = frame_sampler("sparse").test(length, frames, 0, 1)
        assert np.all((low <= tested) & (tested <= high))


def test_spatial_crops():
    side = CASE.meta["spatial_size"]
    for h, w, nh, nw, views, view, top, left in CASE.outputs["spatial_crops"].tolist():
        resized, offset = long_side_view(min(h, w), max(h, w), view, views, side)
        assert (max(nh, nw), max(top, left)) == (resized, offset)
        # The box in source pixels has its centre there, up to half a pixel.
        box = view_crop(h, w, view, views, side)
        scale = max(h, w) / resized
        centre = box.left + box.width / 2 if w >= h else box.top + box.height / 2
        assert abs(centre - (offset + side / 2) * scale) <= 0.5 + 1e-9


def normalised(frames):
    """[T, S, S, 3] of 0 to 255 -> [3, T, S, S]."""
    scaled = (frames / 255 - np.array(CLIP_PIXELS.mean)) / np.array(CLIP_PIXELS.std)
    return scaled.transpose(3, 0, 1, 2)


def test_statistics_are_clips():
    np.testing.assert_allclose(CLIP_PIXELS.mean, CASE.meta["mean"], rtol=1e-6)
    np.testing.assert_allclose(CLIP_PIXELS.std, CASE.meta["std"], rtol=1e-6)


def test_training_clips():
    for i, expected in enumerate(CASE.outputs["train_items"]):
        top, left, height, width = CASE.outputs["train_boxes_ijhw"][i]
        frames = CASE.inputs["video0"][CASE.outputs["train_frame_idx"][i]]
        cut = frames[:, top : top + height, left : left + width]
        np.testing.assert_allclose(normalised(bilinear(cut, (16, 16))), expected, atol=1e-4)


def reference_views(video, num_frames, stride, temporal, spatial, side):
    """The views of the official loader, built from this project's parts, in its order."""
    h, w = video.shape[1:3]
    long, _ = long_side_view(min(h, w), max(h, w), 0, spatial, side)
    resized = bilinear(video, (long, side) if h > w else (side, long))
    test = frame_sampler(f"dense:{stride}").test
    for view in range(spatial):
        _, offset = long_side_view(min(h, w), max(h, w), view, spatial, side)
        for clip in range(temporal):
            frames = resized[test(len(video), num_frames, clip, temporal)]
            yield frames[:, offset : offset + side] if h > w else frames[:, :, offset:][
                :, :, :side
            ]  # fmt: skip


@pytest.mark.parametrize("case", CASE.meta["eval_items"], ids=lambda case: f"item{case['i']}")
def test_evaluation_clips(case):
    kw = case["kw"]
    video = CASE.inputs[f"video{case['i']}"]
    views = reference_views(video, kw["num_frames"], kw["sampling_rate"], kw["num_temporal_views"],
                            kw["num_spatial_views"], kw["spatial_size"])  # fmt: skip
    found = np.stack([normalised(view) for view in views])
    expected = CASE.outputs[f"eval_item{case['i']}"]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-4)


@pytest.mark.parametrize("case", CASE.meta["eval_items"], ids=lambda case: f"item{case['i']}")
def test_the_loader_reads_the_same_frames_in_the_same_places(case):
    """Through the project's own loader: square crops of the source, resized once, eight bits."""
    kw, i = case["kw"], case["i"]
    videos = [CASE.inputs[f"video{i}"]] * 3
    temporal, spatial = kw["num_temporal_views"], kw["num_spatial_views"]
    clips = EvalClips(
        ArrayCatalog(videos, [case["label"]] * 3), Grid(kw["num_frames"], kw["spatial_size"]),
        slots=kw["num_frames"] * 4, bad=BadVideos(0.0), patch=8,
        sampling=f"dense:{kw['sampling_rate']}", clips=temporal, crops=spatial,
    )  # fmt: skip
    (batch, last) = loader.eval_batches(clips, 2, workers=1)
    assert batch["label"].tolist() == [case["label"]] * 2 and last["weight"].tolist() == [1, 0]
    # Ours come clip by clip, the reference's crop by crop; the mean over views is the same.
    expected = CASE.outputs[f"eval_item{i}"].reshape(spatial, temporal, 3, kw["num_frames"], 16, 16)
    expected = expected.swapaxes(0, 1).reshape(-1, *expected.shape[2:])
    patches = batch["patches"][0].reshape(-1, kw["num_frames"], 2, 2, 8, 8, 3)
    found = patches.transpose(0, 1, 2, 4, 3, 5, 6).reshape(-1, kw["num_frames"], 16, 16, 3)
    assert len(found) == len(expected)
    for view, wanted in zip(found, expected, strict=True):
        view = normalised(view)
        correlation = np.corrcoef(view.ravel(), wanted.ravel())[0, 1]
        assert correlation > 0.9, f"other frames or another place: correlation {correlation:.2f}"


def test_blank_videos_cost_no_decoding():
    catalog = open_catalog("dummy:5", split="train", num_classes=3)
    assert len(catalog) == 5 and [catalog[i].label for i in range(5)] == [0, 1, 2, 0, 1]
    clips = TrainClips(catalog, [Grid(2, 16)], seed=0, videos_per_batch=4, slots=10, patch=8,
                       bad=BadVideos(0.0), sampling="dense:4")  # fmt: skip
    (batch,) = loader.train_batches(clips, 0, 1, workers=1)
    assert batch["patches"].shape == (4, 10, 192) and not batch["patches"].any()
    assert batch["grid"].tolist() == [[2, 2, 2]] * 4
    for source, message in (("dummy:0", "dummy:COUNT"), ("dummy:x", "dummy:COUNT")):
        with pytest.raises(ValueError, match=message):
            open_catalog(source, split="train", num_classes=3)
    with pytest.raises(ValueError, match="set num_classes"):
        open_catalog("dummy", split="train")
    assert BlankVideo().read(np.arange(3), size=(4, 5)).shape == (3, 4, 5, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("dense", "lacks the frames"), ("dense:0", "lacks"), ("tsm", "unknown frame sampler 'tsm'")],
)
def test_wrong_samplers_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        frame_sampler(name)
