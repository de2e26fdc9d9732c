"""Train steps for TPUs that are not there: compiled for a slice, and the kernel interpreted."""

import importlib.util
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from fluxjax.models import attention, trunk
from fluxjax.models.attention_choice import Place
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import make_mesh
from fluxjax.training.topologies import topology_devices
from tests import tiny
from tests.models.test_attention import interpret_kernel
from tests.training.test_loop import run
from tests.training.test_mesh import one_device

pytestmark = pytest.mark.slow
HAS_COMPILER = importlib.util.find_spec("libtpu") is not None


def config_for(attention):
    """Flux-Multi on 8 frames of 112 pixels, whose attention is long enough for the kernel."""
    config = tiny.get_config()
    config.model.update({"width": 128, "attention": attention})
    config.grids.frames, config.grids.resolutions = (8,), (112,)
    config.grids.min_tokens = config.grids.max_tokens = 512
    config.budgets, config.total_steps = (256, 130), 3
    config.optim.warmup_steps = 0
    return config


@pytest.mark.skipif(not HAS_COMPILER, reason="the TPU compiler (extra tpu) is not installed")
@pytest.mark.parametrize(
    "sizes", [{"data": 4}, {"data": 2, "fsdp": 2}, {"fsdp": 2, "tensor": 2}], ids=str
)
def test_the_kernel_compiles_on_meshes_of_a_slice(sizes):
    mesh = make_mesh(sizes, topology_devices("v5e:2x2"))
    (program,) = Trainer.create(create_task(config_for("pallas")), mesh).compile_steps()
    kernels = program.as_text().count("tpu_custom_call")
    assert kernels >= 6, "forward and two gradients, at either budget"


@pytest.mark.skipif(not HAS_COMPILER, reason="the TPU compiler (extra tpu) is not installed")
def test_the_command_compiles_for_a_slice_and_opens_no_device():
    options = {
        "dry_run": "true", "dry_run_topology": "v5e:2x2", "batch_size": 8, "num_classes": 10,
        "total_steps": 30, "data.train": "dummy", "data.test": "dummy",
    }  # fmt: skip
    command = [sys.executable, "-m", "fluxjax.main", "--config", "tests/tiny.py"]
    command += [f"--config.{name}={value}" for name, value in options.items()]
    # As on a laptop: JAX may look for any device, and none is simulated.
    plain = {n: x for n, x in os.environ.items() if n not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    result = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "4 devices, TPU v5 lite" in result.stdout
    assert re.search(r"there is +16384.00 MiB", result.stdout)
    assert "compiled in" in result.stdout
    assert not re.search(r"^(E0|WARNING|Failed)", result.stderr, re.MULTILINE), result.stderr


@pytest.fixture
def interpreted(monkeypatch) -> None:
    for module in (attention, trunk):
        monkeypatch.setattr(module, "place_of_tracing", lambda: Place("tpu"))
    interpret_kernel(monkeypatch)


def test_three_steps_with_the_interpreted_kernel_have_the_losses_of_xla(tmp_path, interpreted):
    losses = {
        name: [loss for _, loss in run(config_for(name), tmp_path / name, one_device())[1]]
        for name in ("xla", "pallas")
    }
    assert len(losses["xla"]) == 3 and np.ptp(losses["xla"]) > 1e-3
    np.testing.assert_allclose(losses["pallas"], losses["xla"], rtol=1e-4)
    jax.clear_caches()  # nothing traced for a pretended TPU stays
