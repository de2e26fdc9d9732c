"""Crop boxes: the reference's test crops (fixture v10) and the statistics of random ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.clips.crops import random_resized_crop, view_crop
from data_pipelines.clips.seeding import rng

_FIXTURE = Path(__file__).parents[2] / "golden" / "fluxvit" / "v10_frame_indices.npz"
TEST_CROPS = json.loads(str(np.load(_FIXTURE, allow_pickle=False)["meta"]))["test_crops"]


@pytest.mark.parametrize("case", TEST_CROPS, ids=lambda c: f"{c['h']}x{c['w']}-{c['num_crop']}")
def test_view_crop_is_the_reference_crop(case):
    height, width, side = case["h"], case["w"], case["short_side"]
    short, long = sorted((height, width))
    for view, start in enumerate(case["starts"]):
        box = view_crop(height, width, view, case["num_crop"], side)
        assert (box.height, box.width) == (short, short)
        offset, across = (box.top, box.left) if case["axis"] == "h" else (box.left, box.top)
        assert across == 0 and 0 <= offset <= long - short
        resized_centre = start + side / 2
        assert offset + short / 2 == pytest.approx(
            resized_centre * long / max(case["resized"]), abs=0.51
        )


def test_views_span_the_frame():
    starts = [view_crop(240, 320, view, 3, 224).left for view in range(3)]
    assert starts == [0, 40, 80]
    starts = [view_crop(1920, 1080, view, 5, 1080).top for view in range(5)]
    assert starts == [0, 210, 420, 630, 840]
    assert view_crop(480, 640, 0, 1, 224) == (0, 80, 480, 480)


def test_impossible_views_are_refused():
    with pytest.raises(ValueError, match="no view 3 of 3"):
        view_crop(240, 320, 3, 3, 224)
    with pytest.raises(ValueError, match="0 x 320"):
        view_crop(0, 320, 0, 3, 224)
    with pytest.raises(ValueError, match="resolution"):
        view_crop(240, 320, 0, 3, 0)


def test_random_crops_lie_in_the_frame_and_cover_the_ranges():
    height, width, generator = 480, 640, rng(0)
    boxes = np.array([random_resized_crop(height, width, generator) for _ in range(2000)])
    top, left, rows, columns = boxes.T
    assert (boxes >= 0).all() and (top + rows <= height).all() and (left + columns <= width).all()
    area, log_aspect = rows * columns / (height * width), np.log(columns / rows)
    assert 0.078 < area.min() < 0.09 and 0.95 < area.max() <= 1.0
    # Half a pixel of rounding moves the aspect of the smallest boxes (136 pixels high) by 0.7 %.
    assert np.abs(log_aspect).max() == pytest.approx(np.log(4 / 3), abs=0.008)
    small = log_aspect[area < 0.5]  # these always fit: log-uniform, so symmetric about 0
    assert abs(small.mean()) < 0.02 and small.std() == pytest.approx(np.log(16 / 9) / 12**0.5, 0.05)
    assert np.mean(top == 0) < 0.3 and np.mean(top + rows == height) > 0


def test_area_is_uniform_where_every_box_fits():
    generator = rng(1)
    boxes = np.array(
        [random_resized_crop(600, 600, generator, scale=(0.1, 0.5)) for _ in range(2000)]
    )
    area = boxes[:, 2] * boxes[:, 3] / 600**2
    counts, _ = np.histogram(area, bins=4, range=(0.1, 0.5))
    assert (np.abs(counts - 500) < 80).all()  # standard deviation 19


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 1000, (0, 433, 100, 133)), (1000, 100, (433, 0, 133, 100)), (90, 100, (0, 0, 90, 100))],
)
def test_fallback_is_the_largest_centred_box(height, width, expected):
    assert random_resized_crop(height, width, rng(0), scale=(2.0, 3.0)) == expected


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (3, 2)])
def test_tiny_frames_have_crops(height, width):
    for seed in range(30):
        top, left, rows, columns = random_resized_crop(height, width, rng(seed))
        assert rows >= 1 and columns >= 1 and top + rows <= height and left + columns <= width


def test_random_crop_is_a_function_of_the_generator():
    assert random_resized_crop(240, 320, rng(8, 1)) == random_resized_crop(240, 320, rng(8, 1))
    assert random_resized_crop(240, 320, rng(8, 1)) != random_resized_crop(240, 320, rng(8, 2))


@pytest.mark.parametrize("ranges", [{"scale": (0.0, 1.0)}, {"ratio": (2.0, 1.0)}])
def test_impossible_ranges_are_refused(ranges):
    with pytest.raises(ValueError, match="ascending"):
        random_resized_crop(240, 320, rng(0), **ranges)
