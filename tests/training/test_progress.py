"""The progress line, and lines where it is long in coming."""

import time

import jax.numpy as jnp

from fluxjax.training import progress
from fluxjax.training.nonfinite import FINITE
from fluxjax.training.progress import Progress, progress_line

TIMING = {"clips_per_second": 123.45, "data_wait": 0.1, "eta_seconds": 3700.0}


def test_a_line_fits_and_leaves_out_terms_before_anything_else():
    scalars = {"loss": 1.2345, "ce": 1.0, "grad_norm": 1.5, "learning_rate": 1e-4, "top1_48": 0.5}
    line = progress_line(7, 40, scalars, TIMING | {"eta_seconds": 59})
    assert line == (
        "step  7/40 | loss 1.234 | ce 1.000 | top-1 at 48: 50 % | 123.5 clips/s | data wait 10% | "
        "ETA 0:59"
    )
    many = scalars | {f"align_{n}": 0.1 for n in range(20)} | {"skipped": 2.0}
    line = progress_line(7, 40, many, TIMING)
    assert len(line) <= progress.COLUMNS and "align" not in line
    assert "| skipped 2 |" in line and line.endswith("ETA 1:01:40")


def test_several_budgets_share_one_figure():
    scalars = {"loss": 1.0, "top1_12": 0.125, "top1_128": 0.5, "top1_64": 0.25}
    assert "| top-1 at 128/64/12: 50/25/12 % |" in progress_line(1, 2, scalars, TIMING)


def test_silence_is_broken_every_so_often(monkeypatch, caplog):
    caplog.set_level("INFO")
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    steps = Progress(first_step=10, total_steps=50, clips_per_step=4)
    metrics = {"loss": jnp.ones(()), FINITE: jnp.ones((), bool)}
    said = []
    for _ in range(8):
        clock[0] += 10
        steps.add(metrics, 0.0)
        said.append(len(caplog.messages))
    assert said == [0, 0, 1, 1, 1, 2, 2, 2]
    assert caplog.messages == ["step 13/50", "step 16/50"]
    steps.flush(18)
    clock[0] += 20
    steps.add(metrics, 0.0)
    assert len(caplog.messages) == 2, "a full line has just been printed"
