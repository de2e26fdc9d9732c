"""Attention back ends that run elsewhere: the TPU kernel, interpreted on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from fluxjax.models.attention import attention


def inputs(n=150):
    q, k, v = (
        jnp.asarray(np.random.default_rng(i).standard_normal((2, n, 2, 64), np.float32))
        for i in range(3)
    )
    return q, k, v


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
def test_pallas_equals_xla_forward_and_backward(padded):
    q, k, v = inputs()
    valid = jnp.arange(150)[None] < jnp.array([[150], [97]]) if padded else None

    def value(backend, q, k, v):
        out = attention(q, k, v, valid=valid, backend=backend)
        rows = out if valid is None else jnp.where(valid[..., None, None], out, 0)
        return jnp.sum(jnp.sin(rows)), out

    results = {}
    with pltpu.force_tpu_interpret_mode():
        for backend in ("xla", "pallas"):
            run = functools.partial(value, backend)
            results[backend] = jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
        results["xla"],
        results["pallas"],
    )


def test_unknown_back_ends_are_named():
    with pytest.raises(ValueError, match=r"unknown attention back end 'flash'; choose one of"):
        attention(*inputs(4), backend="flash")
