"""Multi-scale and short-side crops, and views that do not fill the short side."""

import collections

import numpy as np
import pytest

from data_pipelines.clips.crops import ViewPlaces, view_crop
from data_pipelines.clips.joint import Augmentation, Draws, joint_clips
from data_pipelines.clips.seeding import rng
from data_pipelines.clips.training_crops import training_crop
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.sources.records import Record
from fluxjax.tokens.examples import ClipSpec
from fluxjax.tokens.grids import Grid


def reference_multi_scale(width, height, side, draw):
    """GroupMultiScaleCrop of TSN-based releases, scales 1, .875, .75, .66, max_distort 1."""
    base = min(width, height)
    sizes = [int(base * x) for x in (1, 0.875, 0.75, 0.66)]
    sizes = [side if abs(x - side) < 3 else x for x in sizes]
    pairs = [(w, h) for i, h in enumerate(sizes) for j, w in enumerate(sizes) if abs(i - j) <= 1]
    w, h = pairs[draw(len(pairs))]
    x, y = (width - w) // 4, (height - h) // 4
    offsets = [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y), (0, 2 * y),
               (4 * x, 2 * y), (2 * x, 4 * y), (2 * x, 0), (x, y), (3 * x, y), (x, 3 * y),
               (3 * x, 3 * y)]  # fmt: skip
    left, top = offsets[draw(len(offsets))]
    return top, left, h, w


@pytest.mark.parametrize(("height", "width"), [(240, 427), (256, 340), (300, 257)])
def test_multi_scale_crops_are_tsns(height, width):
    crop, seen = training_crop("multi_scale"), collections.Counter()
    for seed in range(300):
        mine, theirs = rng(seed), rng(seed)
        box = crop(height, width, 224, mine)
        assert tuple(box) == reference_multi_scale(width, height, 224, theirs.integers)
        seen[box.height, box.width] += 1
    assert len(seen) == 10
    if height == 256:
        assert (224, 224) in seen  # 0.875 of 256


def test_a_crop_larger_than_the_picture_is_none():
    boxes = [training_crop("multi_scale")(22, 30, 24, rng(seed)) for seed in range(50)]
    assert max(box.height for box in boxes) == 22


def test_short_side_crops_are_pyslowfasts():
    """S with 1 / S uniform in [1/320, 1/256], and 224 of S: uniform shares 0.7 to 0.875."""
    crop = training_crop("short_side:0.7:0.875")
    boxes = np.array([crop(1000, 2000, 224, rng(seed)) for seed in range(2000)])
    sides = boxes[:, 2]
    assert (sides == boxes[:, 3]).all() and sides.min() >= 700 and sides.max() <= 875
    assert sides.mean() == pytest.approx(787.5, abs=4)
    assert boxes[:, 1].max() > 1050 and boxes[:, 1].min() < 50
    assert boxes[:, 0].max() > 200 and (boxes[:, :2] >= 0).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("centre", "unknown crop 'centre'; known: random_resized, multi_scale"),
        ("short_side", "lacks two shares"),
        ("short_side:256:320", "lacks two shares"),
    ],
)
def test_unknown_crops_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        training_crop(name)


def test_clips_are_cut_by_the_named_crop():
    """A picture of diagonal stripes tells the box: two clips of a video share it."""
    column = np.broadcast_to(np.arange(64, dtype=np.uint8) * 3, (4, 48, 64))
    video = ArrayVideo(np.stack([column] * 3, axis=-1))
    specs = [ClipSpec((Grid(2, 24),), "a"), ClipSpec((Grid(4, 24),), "b")]
    widths = set()
    for seed in range(12):
        draws = Draws((seed, 0, 0), (Grid(2, 24), Grid(4, 24)))
        augmentation = Augmentation(flip=False, crop="short_side:0.5:0.5")
        ((a, b),) = joint_clips(Record(video, 0, "x"), specs, draws, augmentation, "sparse")
        np.testing.assert_array_equal(a[0], b[0])
        widths.add(int(a[0, 0, -1, 0]) - int(a[0, 0, 0, 0]))
    assert widths == {69}  # 23 columns of 3


def test_views_may_leave_a_margin_and_a_single_one_may_lie_at_the_start():
    share = ViewPlaces(224 / 256)
    assert view_crop(240, 320, 0, 1, 224, share) == (15, 55, 210, 210)
    assert view_crop(320, 240, 0, 1, 224, share) == (55, 15, 210, 210)
    assert [view_crop(240, 320, i, 3, 224, share).left for i in range(3)] == [0, 55, 110]
    start = ViewPlaces(single="start")
    assert view_crop(240, 320, 0, 1, 256, start) == (0, 0, 240, 240)
    assert view_crop(320, 240, 0, 1, 256, start) == (0, 0, 240, 240)
    assert view_crop(240, 320, 1, 3, 256, start) == (0, 40, 240, 240)
