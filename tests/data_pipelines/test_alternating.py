"""Batches of videos and of images in turn."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.from_config import VideoData
from fluxjax.config.keys import base_config, check_config
from fluxjax.tasks import create_task
from tests import tiny_run
from tests.tasks.test_contrast_budgets import config as contrast_config


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Eight videos, and six images of one grey each."""
    folder = tmp_path_factory.mktemp("both") / "videos"
    tiny_run.write_videos(folder, 8)
    rows = [f'{{"video": "{i}.png", "caption": "grey {i}"}}' for i in range(6)]
    for i in range(6):
        Image.fromarray(np.full((60, 80, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / "images.jsonl").write_text("\n".join(rows))
    return folder


def config_of(folder):
    config = base_config("fluxvit_ti14")
    config.grids.frames, config.grids.resolutions = (4, 8), (28, 42)
    config.grids.min_tokens, config.grids.max_tokens = 16, 72
    config.budgets, config.num_classes = (16, 8, 4), 4
    config.data.train = config.data.test = str(folder / "list.txt")
    config.data.images = str(folder / "images.jsonl")
    config.data.root, config.data.workers = str(folder), 1
    config.batch_size, config.total_steps, config.data.flip = 4, 7, False
    return config


def batches(config, first=0):
    data, task = VideoData.open(config), create_task(config)
    return list(data.train_batches(task.example(), first))


def test_odd_batches_are_of_images_in_the_order_that_they_have_alone(lists):
    config = config_of(lists)
    both = batches(config)
    assert [int(batch["grid"][0, 0]) > 1 for batch in both] == [True, False] * 3 + [True]
    for batch in both[1::2]:
        assert set(batch["grid"][:, 0]) == {1} and set(batch["grid"][:, 1]) <= {2, 3}
        for patches, grid, example in zip(
            batch["patches"], batch["grid"], batch["example"], strict=True
        ):
            tokens = int(np.prod(grid))
            assert np.all(np.abs(patches[:tokens].astype(int) - 40 * example) <= 2)
            assert not patches[tokens:].any()
    seen = np.concatenate([batch["example"] for batch in both[1::2]])
    assert sorted(seen[:6]) == list(range(6)), "an epoch of images has each once"

    config.data.images = ""
    alone = batches(config)
    for mixed, single in zip(both[::2], alone, strict=False):
        for name, value in mixed.items():
            np.testing.assert_array_equal(value, single[name])


def test_a_run_that_resumes_reads_the_same(lists):
    config = config_of(lists)
    for whole, resumed in zip(batches(config)[3:], batches(config, 3), strict=True):
        for name, value in whole.items():
            np.testing.assert_array_equal(value, resumed[name])


def test_dense_clips_of_one_grid_are_refused():
    config = contrast_config()
    config.data.images = "images.jsonl"
    check_config(config)
    dense = base_config("avion_ti8", "contrast")
    dense.grids.frames, dense.grids.resolutions = (8,), (48,)
    dense.grids.max_tokens, dense.eval.grids = 288, ("8x48",)
    dense.contrast.vocabulary = "demo:captions"
    dense.data.images = "images.jsonl"
    with pytest.raises(ValueError, match="config.data.images='images.jsonl' needs a model that"):
        check_config(dense)
