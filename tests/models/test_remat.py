"""Computing blocks again in the backward pass: the same gradients from less memory."""

import functools

import jax
import numpy as np
import pytest

import fluxjax
from tests.models.test_fluxvit import BUDGETS, SIZE, clip, dense


@functools.cache
def gradients(kind):
    """Loss, gradients and the bytes that the forward pass keeps for them.

    Counted in the traced program: XLA on CPU shares the repeated work again.
    """
    size = SIZE | {"depth": 4, "layer_scale": 1.0}
    model = fluxjax.create_model(
        "fluxvit_ti14", 5, budgets=BUDGETS[1:], remat=kind, drop_path=0.3, **size
    )
    video = np.concatenate([dense(clip((8, 3, 3), seed)) for seed in range(4)])

    def loss(variables):
        outputs = model.apply(
            variables,
            video,
            train=True,
            rngs={"dropout": jax.random.key(2)},
            method="forward_budgets",
        )
        return sum(output.logits.var() + output.features.var() for output in outputs)

    variables = jax.jit(model.init)(jax.random.key(0), video[:1])
    kept = jax.eval_shape(lambda variables: jax.vjp(loss, variables)[1], variables)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return jax.jit(jax.value_and_grad(loss))(variables), size


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dots", "block"])
def test_gradients_are_the_same_and_memory_is_less(kind):
    (expected, plain), most = gradients("none")
    (value, recomputed), less = gradients(kind)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert jax.tree.structure(plain) == jax.tree.structure(recomputed), "other parameter names"
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, recomputed
    )
    assert less < {"dots": 0.8, "block": 0.65}[kind] * most


def test_unknown_kinds_are_named():
    model = fluxjax.create_model("fluxvit_ti14", 5, remat="all", **SIZE)
    with pytest.raises(ValueError, match=r"unknown remat 'all'; choose one of \('none'"):
        jax.eval_shape(model.init, jax.random.key(0), dense(clip((2, 1, 1))))
