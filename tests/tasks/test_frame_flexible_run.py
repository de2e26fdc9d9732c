"""A whole run of a frame flexible network: folders of frames, three branches, any frame number."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

import fluxjax
from fluxjax import main
from fluxjax.checkpoints.usage import Usage
from fluxjax.tasks.frame_flexible import FrameFlexibleTask
from tests.tasks.test_frame_flexible import config_for


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Videos of 6 to 9 grey frames whose brightness tells the class."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    lines = []
    for number in range(16):
        label, count = number % 4, 6 + number % 3
        (folder / "frames" / str(number)).mkdir(parents=True)
        for i in range(1, count + 1):
            grey = rng.integers(60 * label, 60 * label + 20, (20, 24, 1))
            picture = Image.fromarray(np.repeat(grey, 3, axis=-1).astype(np.uint8))
            picture.save(folder / "frames" / str(number) / f"{i:05d}.jpg")
        lines.append(f"{number} {count} {label}\n")
    (folder / "list.txt").write_text("".join(lines))
    config = config_for()
    config.data.train = config.data.test = str(folder / "list.txt")
    config.data.root, config.data.frames = str(folder / "frames"), "{:05d}.jpg"
    config.data.crop, config.data.sampling = "multi_scale", "ssv2"
    config.batch_size, config.total_steps, config.num_classes = 8, 60, None
    config.eval.grids, config.eval.batch_size = ("8x16", "5x16", "2x16", "1x16"), 8
    config.eval.crop_share, config.log_every = 0.875, 60
    config.optim.update({"name": "sgd", "lr": 1.6, "warmup_steps": 0})
    main.run(config, folder / "run")
    return config, folder / "run"


def test_the_table_has_a_row_for_every_frame_number(finished):
    rows = json.loads((finished[1] / "evaluation.json").read_text())["rows"]
    assert [(row["grid"], row["budget"]) for row in rows] == [
        ("8x16", None), ("5x16", None), ("2x16", None), ("1x16", None),
    ]  # fmt: skip
    assert {row["videos"] for row in rows} == {16}
    assert min(row["top1"] for row in rows) >= 0.9, [row["top1"] for row in rows]


def test_the_model_is_stored_with_its_branches_and_statistics(finished):
    config, workdir = finished
    model, variables = fluxjax.load(workdir / "model")
    assert model.frames == (2, 4, 8) and config.num_classes == 4
    assert variables["batch_stats"].keys() == {"norm_2", "norm_4", "norm_8"}
    assert np.ptp(variables["batch_stats"]["norm_2"]["mean"]) > 0
    usage = Usage.of_run(config)
    assert usage.frames == (2, 4, 8) and usage.sampling == "ssv2"
    grey = np.full((1, 3, 16, 16, 3), 130, np.uint8)
    task = FrameFlexibleTask(config)
    found = task.predict(variables, {"video": grey}, None)
    assert int(jax.numpy.argmax(found)) == 2
