"""Whether train steps fit: asked before they are compiled, and once they are."""

import jax
import jax.numpy as jnp
import pytest

from fluxjax.tasks import create_task
from fluxjax.training import compilation, memory
from fluxjax.training.loop import Trainer
from tests import tiny

MIB = 2**20


def peak(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return memory.peak_bytes(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def test_the_peak_counts_what_is_alive_at_one_time():
    size = 256 * 1024  # values: 1 MiB
    assert peak(lambda x: jnp.sin(x), (size,)) == MIB
    # x is the input's; sin and cos of it are there while their sum is made.
    assert peak(lambda x: jnp.sin(x) + jnp.cos(x), (size,)) == 3 * MIB
    chain = lambda x: jnp.exp(jnp.exp(jnp.exp(jnp.exp(x))))  # noqa: E731
    assert peak(chain, (size,)) == 2 * MIB, "a value counts after its last use"


def test_the_peak_looks_into_loops_and_gradients():
    size = 256 * 1024

    def loop(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) * jnp.cos(c), None), x, None, length=9)[0]

    assert 3 * MIB <= peak(loop, (size,)) <= 4 * MIB
    depth = lambda n: peak(  # noqa: E731
        jax.grad(lambda x: jnp.sum(jax.lax.fori_loop(0, n, lambda _, y: jnp.sin(y), x))), (size,)
    )
    assert depth(20) >= 20 * MIB, "what the backward pass needs of each turn is kept"


@pytest.fixture
def trainer():
    return Trainer.create(create_task(tiny.get_config()))


def with_memory(monkeypatch, size):
    monkeypatch.setattr(memory, "device_memory", lambda: size)


def test_what_cannot_fit_is_refused_before_it_is_compiled(trainer, monkeypatch):
    with_memory(monkeypatch, 1000)
    before = compilation.counts.total()
    with pytest.raises(ValueError, match=r"needs about .* GiB of memory a device .*batch_size"):
        trainer.compile_steps()
    assert compilation.counts.total() == before
    with_memory(monkeypatch, None)  # a platform that does not tell


def test_a_batch_of_a_thousand_is_refused_and_a_small_one_is_not(monkeypatch):
    with_memory(monkeypatch, 16 * MIB)
    config = tiny.get_config()
    config.batch_size = 80_000
    with pytest.raises(ValueError, match="Lower config.batch_size"):
        Trainer.create(create_task(config)).compile_steps()
    Trainer.create(create_task(tiny.get_config())).compile_steps()


def test_a_compiled_step_is_measured(trainer, monkeypatch, caplog):
    with_memory(monkeypatch, None)
    (program,) = trainer.compile_steps()
    needed = memory.program_bytes(program)
    batch = trainer.task.batch_spec(trainer.task.config.batch_size)
    held = memory.held_bytes(trainer.abstract_state)
    assert held < needed < 100 * held
    arguments = trainer.abstract_state
    with_memory(monkeypatch, int(needed * 1.05))
    memory.check_program("train step x", program, arguments)
    assert "Lower config.batch_size" in caplog.text, "no warning where it only just fits"
    caplog.clear()
    with_memory(monkeypatch, 2 * needed)
    memory.check_program("train step x", program, arguments)
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    with_memory(monkeypatch, needed - 1)
    with pytest.raises(ValueError, match="^train step x needs "):
        memory.check_program("train step x", program, arguments)
    assert batch


def test_the_machine_tells_its_memory():
    assert 0 < memory.device_memory() * jax.local_device_count() < 2**50
