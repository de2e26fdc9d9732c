"""What docs/serving.md shows of making clips gives the pipeline's own."""

import pathlib
import re

import numpy as np
import pytest

from data_pipelines.clips.views import eval_views
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.sources.records import Record
from fluxjax.tokens.grids import Grid

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def make_clip():
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names = {}
    exec(code, names)
    return names["make_clip"]


@pytest.mark.parametrize("sampling", ["sparse", "ssv2", "dense:3", "dense:16"])
@pytest.mark.parametrize("shape", [(50, 45, 80), (7, 61, 40), (23, 32, 32), (1, 20, 33)])
def test_the_code_of_the_page_makes_the_clips_of_the_evaluation(make_clip, sampling, shape):
    video = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)
    record = Record(ArrayVideo(video), -1, "")
    for frames, size, clips, crops in ((4, 28, 1, 1), (8, 42, 3, 3), (3, 14, 2, 2)):
        expected = eval_views(record, Grid(frames, size), sampling, clips, crops)
        found = [
            make_clip(video, frames, size, sampling, clip, clips, crop, crops)
            for clip in range(clips)
            for crop in range(crops)
        ]
        difference = np.abs(np.stack(found).astype(int) - np.stack(expected))
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02, "rounding only"
