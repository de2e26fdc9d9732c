"""The sweep on clips in memory: what it counts, that it resumes, what it refuses."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.budgets import sweep
from fluxjax.budgets.points import read_report
from fluxjax.budgets.sweep import Sweep, sweep_settings
from fluxjax.serving.settings import Setting
from fluxjax.tokens.grids import Grid, clip_patches
from tests.tasks.test_classify import task_and_variables

BIG, SMALL = Grid(4, 28), Grid(2, 28)
VIDEOS, BATCH, VIEWS = 11, 4, 2
SUBJECT = {"checkpoint": "abc", "clips": VIEWS, "grids": ("a", "b")}


class Videos:
    """Batches as the loader yields them, from noise; remembers what was asked for."""

    def __init__(self, stop_after=None):
        self.asked, self.read, self._stop = [], 0, stop_after

    @staticmethod
    @functools.cache
    def clips(grid):
        rng = np.random.default_rng(grid.frames)
        shape = (VIDEOS, VIEWS, grid.frames, grid.resolution, grid.resolution, 3)
        return rng.integers(0, 256, shape, np.uint8), rng.integers(0, 4, VIDEOS, np.int32)

    def __call__(self, grid, first_batch):
        self.asked.append((grid, first_batch))
        clips, labels = self.clips(grid)
        for start in range(first_batch * BATCH, VIDEOS, BATCH):
            if self.read == self._stop:
                raise KeyboardInterrupt
            self.read += 1
            rows = range(start, min(start + BATCH, VIDEOS))
            patches = np.zeros((BATCH, VIEWS, grid.tokens(), 588), np.uint8)
            label, weight = np.full(BATCH, -1, np.int32), np.zeros(BATCH, np.float32)
            for place, row in enumerate(rows):
                patches[place] = [clip_patches(view) for view in clips[row]]
                label[place], weight[place] = labels[row], 1
            readable = np.ones(BATCH, bool)
            yield {"patches": patches, "label": label, "weight": weight, "example": label,
                   "readable": readable}  # fmt: skip


def make(folder, videos, settings=None, subject=SUBJECT):
    task, variables = task_and_variables()
    settings = settings or sweep_settings(task.model, [BIG, SMALL], [8], ["group_dynamic", "none"])
    return Sweep(task.model, variables, settings, videos, VIDEOS, BATCH, subject, folder, repeats=2)


@functools.cache
def expected(setting):
    """Share of videos whose views' mean probability is highest for the label."""
    task, variables = task_and_variables()
    clips, labels = Videos.clips(setting.grid)
    budget = None if setting.method == "none" else setting.budget
    apply = jax.jit(lambda x: jax.nn.softmax(task.model.apply(variables, x, budget, setting.head)))
    probabilities = jnp.stack([apply(clips[:, view]) for view in range(VIEWS)]).mean(0)
    return float(np.mean(np.argmax(probabilities, -1) == labels))


def test_settings_of_a_sweep():
    model = task_and_variables()[0].model
    found = sweep_settings(model, [SMALL, BIG, BIG], [8, 4, 8], ["group_dynamic", "none"])
    assert found == (
        Setting(BIG, 8, "group_dynamic", 0),
        Setting(BIG, 4, "group_dynamic", 1),
        Setting(BIG, 16, "none", 0),
        Setting(SMALL, 4, "group_dynamic", 1),  # of its 8 tokens, 8 are all
        Setting(SMALL, 8, "none", 0),
    )
    with pytest.raises(ValueError, match="nothing can be dropped; add larger grids or method none"):
        sweep_settings(model, [SMALL], [8], ["uniform"])
    with pytest.raises(ValueError, match="unknown method 'best'"):
        sweep_settings(model, [SMALL], [4], ["best"])


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_and_counts_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SAVE_SECONDS", 0)
    videos = Videos(stop_after=5)  # all three batches of the first grid, two of the second
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, videos).run()
    assert len(read_report(tmp_path / "budgets.json").points) == 2
    videos = Videos()
    report = make(tmp_path, videos).run()
    assert videos.asked == [(SMALL, 2)] and videos.read == 1, "decoded again"
    assert [(p.grid, p.budget, p.method) for p in report.points] == [
        ("4x28", 8, "group_dynamic"), ("4x28", 16, "none"), ("2x28", 8, "none"),
    ]  # fmt: skip
    for point in report.points:
        assert point.videos == VIDEOS and point.batch == BATCH * VIEWS
        assert point.top1 == pytest.approx(expected(point.setting)), point
        assert point.top1_low < point.top1 < point.top1_high and point.top5 == 1
        assert 0 < point.latency_low_ms <= point.latency_ms <= point.latency_high_ms
    big = {p.method: p.gmacs for p in report.points if p.grid == "4x28"}
    assert big["group_dynamic"] < big["none"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["budgets.csv", "budgets.json"]

    # Nothing is left to do; on another machine, times are taken again and accuracies kept.
    stored = json.loads((tmp_path / "budgets.json").read_text())
    stored["machine"]["processor"] = "Other 9000"
    stored["points"] = [point | {"latency_ms": 1e9} for point in stored["points"][:1]]
    stored["points"][0]["top1"] = 0.123
    (tmp_path / "budgets.json").write_text(json.dumps(stored))
    videos = Videos()
    only = [report.points[0].setting]
    (point,) = make(tmp_path, videos, only).run().points
    assert not videos.asked and point.top1 == 0.123 and point.latency_ms < 1e6
    written = read_report(tmp_path / "budgets.json")
    assert written.points == (point,) and written.machine["processor"] != "Other 9000"


def test_a_sweep_of_something_else_is_not_continued(tmp_path):
    from fluxjax.budgets.points import write_report
    from tests.budgets.reports import REPORT

    write_report(REPORT, tmp_path / "budgets.json")
    with pytest.raises(ValueError, match="checkpoint was '0123', is 'abc'.*another --output"):
        make(tmp_path, Videos())


def test_settings_that_cannot_work_cost_no_video(tmp_path):
    videos = Videos()
    eight = Grid(8, 28)
    settings = [Setting(eight, 3, "group_dynamic", 1)]
    with pytest.raises(ValueError, match="smaller than the 4 temporal groups"):
        make(tmp_path, videos, settings).run()
    assert not videos.asked
