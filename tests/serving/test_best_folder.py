"""A run's best model is a checkpoint like its last: every command finds what the run says of it."""

import shutil

import pytest

import fluxjax
from fluxjax.checkpoints.inference import save
from fluxjax.serving.checkpoint import open_checkpoint
from tests import tiny_run


@pytest.fixture
def run(tmp_path):
    folder = tiny_run.write_run(tmp_path / "run")
    model, variables = fluxjax.load(folder)
    save(folder / "best", model, variables, labels=tiny_run.LABELS, step=4, scores={"a": 0.5})
    return folder


def test_it_is_read_with_its_runs_config(run):
    best, last = open_checkpoint(run / "best"), open_checkpoint(run)
    assert (best.step, best.run, best.folder) == (4, run, run / "best")
    assert (last.step, last.run, last.folder) == (None, run, run / "model")
    assert best.labels == tiny_run.LABELS and best.usage == last.usage is not None
    assert fluxjax.Predictor.from_checkpoint(run / "best").setting.budget == 8


def test_what_is_measured_never_lies_in_a_checkpoint(run, tmp_path):
    elsewhere = tmp_path / "model_s"
    shutil.copytree(run / "model", elsewhere)
    for folder, expected in (
        (run, run), (run / "model", run), (run / "best", run / "best_budgets"),
        (elsewhere, tmp_path / "model_s_budgets"),
    ):  # fmt: skip
        assert open_checkpoint(folder).measured == expected
