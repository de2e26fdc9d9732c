"""The dry run's description, and traces of chosen steps."""

import re

import jax
import pytest

from fluxjax.tasks import create_task
from fluxjax.training import dry_run as dry_run_module
from fluxjax.training.dry_run import dry_run
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import make_mesh
from fluxjax.training.profiling import StepProfiler
from tests import tiny


def described(**sizes):
    config = tiny.get_config()
    config.optim.ema, config.model.width = 0.9, 64
    return dry_run(Trainer.create(create_task(config), make_mesh(sizes)))


def figure(text, name):
    return float(re.search(rf"  {name} +([\d.]+)", text)[1])


@pytest.mark.slow
def test_dry_run_shows_shardings_memory_and_computation():
    text = described(data=2, fsdp=2, tensor=2)
    row = r"blocks_0/attn/qkv/kernel +\| \(64, 192\) +\| float32 \| 12,288 +\| \('fsdp', 'tensor'\)"
    assert re.search(row, text), text
    assert "mesh: {'data': 2, 'fsdp': 2, 'tensor': 2}, 8 devices" in text
    whole = described(data=8)
    for name in ("parameters", "optimizer state", "moving average"):
        assert 0 < figure(text, name) < figure(whole, name)
    assert figure(whole, "optimizer state") == pytest.approx(
        2 * figure(whole, "parameters"), rel=0.05
    )
    assert figure(text, "computation") == figure(whole, "computation")
    assert figure(text, "together") >= figure(text, "intermediates")
    for name in ("intermediates", "computation", "state and batch"):
        assert re.search(rf"  {name} +[\d.]+ (MiB|GFLOP)", text)
    assert re.search(r"compiled in [\d.]+ s", text)


def test_only_the_chosen_steps_are_traced(tmp_path):
    profiler = StepProfiler((3, 4), tmp_path)
    traced = []
    step = jax.jit(lambda x: x + 1)
    for number in range(1, 7):
        profiler.before(number)
        traced.append(any(tmp_path.rglob("*.xplane.pb")))
        profiler.after(number, step(number))
    profiler.close()
    # Written once, after step 4.
    assert traced == [False] * 4 + [True] * 2
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_a_run_that_ends_early_closes_its_trace(tmp_path):
    profiler = StepProfiler((1, 9), tmp_path)
    profiler.before(1)
    profiler.close()
    assert any(tmp_path.rglob("*.xplane.pb"))
    StepProfiler((), tmp_path).before(1)  # no trace is running: it could not be started twice
    jax.profiler.start_trace(tmp_path / "other")
    jax.profiler.stop_trace()


def test_a_step_that_does_not_fit_is_said_to(monkeypatch):
    monkeypatch.setattr(dry_run_module, "device_memory", lambda: 2**20)
    assert re.search(r"it does not fit: [\d.]+ MiB of 1.00 MiB", described(data=8))
