"""Frame numbers as a way to save: sweeps of dense networks, and models on one page."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.budgets.figures import accuracy_figure
from fluxjax.budgets.headline import headline
from fluxjax.budgets.html import html_report
from fluxjax.budgets.points import Report, reports_beside, write_report
from fluxjax.budgets.sweep import Sweep, sweep_settings
from fluxjax.serving.settings import FRAMES, Setting
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests.budgets.reports import POINTS, REPORT, SUBJECT, point
from tests.tasks import ffn_toy  # noqa: F401  registers the models
from tests.tasks.test_frame_flexible import SIDE, config_for

VIDEOS, BATCH = 6, 4


def toy():
    task = create_task(config_for())
    return task.model, task.init(jax.random.key(0))


def clips(grid):
    rng = np.random.default_rng(grid.frames)
    shape = (VIDEOS, 1, grid.frames, grid.resolution, grid.resolution, 3)
    return rng.integers(0, 256, shape, np.uint8), rng.integers(0, 4, VIDEOS, np.int32)


def batches(grid, first):
    """As the loader's: the last batch is filled with rows of weight 0."""
    videos, labels = clips(grid)
    for start in range(first * BATCH, VIDEOS, BATCH):
        rows = np.arange(start, start + BATCH)
        yield {
            "video": videos[rows % VIDEOS],
            "label": labels[rows % VIDEOS],
            "weight": (rows < VIDEOS).astype(np.float32),
            "readable": np.ones(BATCH, bool),
        }


def test_settings_are_grids_and_budgets_numbers_of_frames():
    model, _ = toy()
    found = sweep_settings(model, [Grid(5, SIDE), Grid(8, SIDE)], (2, 8), [FRAMES])
    assert found == tuple(Setting(Grid(n, SIDE), n, FRAMES, 0) for n in (8, 2, 5))


def test_a_sweep_counts_what_each_branch_says(tmp_path):
    model, variables = toy()

    settings = sweep_settings(model, [Grid(2, SIDE), Grid(5, SIDE)], (2,), [FRAMES])
    sweep = Sweep(model, variables, settings, batches, VIDEOS, BATCH, SUBJECT, tmp_path, repeats=1)
    points = sweep.run().points
    assert [(p.grid, p.tokens, p.budget) for p in points] == [("5x16", 5, 5), ("2x16", 2, 2)]
    assert points[0].gmacs == pytest.approx(2.5 * points[1].gmacs, rel=0.05)
    for measured, branch in zip(points, (4, 2), strict=True):
        videos, labels = clips(measured.setting.grid)
        video = (videos[:, 0] / 255 - jnp.array(model.pixels.mean)) / jnp.array(model.pixels.std)
        said = model.apply(variables, video.astype(jnp.float32), branch=branch)
        assert measured.top1 == pytest.approx(np.mean(np.argmax(said, -1) == labels))


FRAMED = Report(
    SUBJECT | {"checkpoint": "4567", "model": "Tsm"},
    REPORT.machine,
    (point(8, 0.92, 0.1, 7.0, FRAMES, "8x56"), point(2, 0.85, 0.025, 2.0, FRAMES, "2x56")),
)


def test_one_page_shows_selection_merging_and_frame_numbers():
    others = {"ffn": FRAMED.points}
    figure = accuracy_figure(POINTS, "gmacs", others)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1] == "ffn: frame numbers, all pixels" and len(labels) == 6
    assert {"merging (vid-TLDR)", "Token Optimization (group-dynamic)"} < set(labels)
    text = html_report(REPORT, {}, [], {"ffn": FRAMED})
    assert "Beside it: ffn" in text and text.count("<tr") == 2 + len(POINTS) + 2
    assert "<dd>4567</dd>" in text and "<dd>0123</dd>" in text and text.count('id="all"') == 1


def test_the_headline_counts_frames():
    text = headline([dataclasses.replace(p, videos=10**5) for p in FRAMED.points])
    assert text.startswith("Run 8x56, all pixels: 92.0% of 100000 videos")
    assert text.endswith("Within fewer frames: 2x56, all pixels with 85.0%.")


def test_only_reports_of_the_same_videos_stand_beside(tmp_path):
    paths = []
    for name, report in (("a", FRAMED), ("b", dataclasses.replace(FRAMED, subject={"videos": 9}))):
        (tmp_path / name).mkdir()
        write_report(report, tmp_path / name / "budgets.json")
        paths.append(str(tmp_path / name / "budgets.json"))
    assert reports_beside(paths[:1], REPORT) == {"a": FRAMED}
    with pytest.raises(ValueError, match="its data is None, not 'list.txt'"):
        reports_beside(paths, REPORT)
    with pytest.raises(ValueError, match="two reports lie in folders called 'a'"):
        reports_beside(paths[:1] * 2, REPORT)
