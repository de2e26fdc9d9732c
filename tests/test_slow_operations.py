"""The benchmark of XLA's slow operations measures what it says, and an ended process is named."""

import sys

import numpy as np
import pytest

from benchmarks import slow_operations
from benchmarks.against_torch import Torch
from fluxjax.training.flops import count_flops

SMALL = {
    "product": ("product", (3, 4, 8), (3, 8, 5)),
    "convolution": ("convolution", (2, 4, 6, 3), (1, 1, 3, 7)),
}


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_gradients_are_those_of_the_operation(name):
    kind, left, right = SMALL[name]
    forward, both = slow_operations.jax_runs(kind, left, right)
    out, (da, db) = both()
    np.testing.assert_array_equal(out, forward())
    # The operation is linear in each side, and its gradients are taken at g = out.
    norm = np.sum(np.square(out, dtype=np.float64))
    a, b = (slow_operations.operand(i, shape) for i, shape in enumerate((left, right)))
    assert np.sum(a * da) == pytest.approx(norm, rel=1e-5)
    assert np.sum(b * db) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_flops_are_those_counted_in_the_program(name):
    import jax

    kind, left, right = SMALL[name]
    program = jax.make_jaxpr(slow_operations.forward(kind))
    counted = count_flops(program(*(np.zeros(shape, np.float32) for shape in (left, right))))
    assert slow_operations.flops(kind, left, right) == counted


def test_a_process_answers_in_seconds():
    process = slow_operations.start(sys.executable, "jax")
    name = "product [512, 64] x [64, 3072], 6 heads"
    assert 0 < slow_operations.seconds(process, name, 1) < 60
    process.stdin.close()
    assert process.wait() == 0


def test_a_process_that_has_ended_is_named():
    process = slow_operations.start("false", "torch")
    process.wait()
    with pytest.raises(RuntimeError, match="false has ended; does --torch-python have torch"):
        slow_operations.seconds(process, next(iter(slow_operations.OPERATIONS)), 0)
    with pytest.raises(RuntimeError, match="does --torch-python have torch"):
        Torch("false", {})
