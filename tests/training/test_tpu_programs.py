"""Train steps for TPUs that are not there: compiled for a slice, and the kernel interpreted."""

import importlib.util

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
