"""VideoMAE's matrix products, counted in the traced program, against the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.videomae_step import loss_of, model_macs, train_macs
from fluxjax.models import create_model
from fluxjax.models.attention_choice import plain_attention


def product_macs(jaxpr):
    """Multiply-accumulates of all matrix products in a jaxpr."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            total += equation.outvars[0].aval.size * int(inner)
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                total += product_macs(part) if hasattr(part, "eqns") else 0
    return total


def traced(function, *shapes):
    with plain_attention():
        return jax.make_jaxpr(function)(*shapes)


@pytest.fixture(scope="module")
def base():
    model = create_model("videomae_b16_pretrain", 0)
    video = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.uint8)
    mask = jax.ShapeDtypeStruct((1, 1568), jnp.bool_)
    variables = jax.eval_shape(
        lambda v, m: model.init(jax.random.key(0), v, m, slots=(160, 1408)), video, mask
    )
    return model, variables, video, mask


def test_no_work_on_hidden_tokens(base):
    """160 of 1568 tokens pass the encoder: 33.8 GMAC, where all of them would cost 200."""
    model, variables, video, mask = base
    forward = lambda v, x, m: model.apply(v, x, m, slots=(160, 1408))  # noqa: E731
    counted = product_macs(traced(forward, variables, video, mask).jaxpr)
    parts = model_macs(model, 1568, 1408)
    assert counted == pytest.approx(sum(parts.values()), rel=0.01)
    assert sum(parts.values()) == pytest.approx(33.8e9, rel=0.01)


def test_a_training_step_costs_three_forward_passes(base):
    model, variables, video, mask = base
    hidden = jax.ShapeDtypeStruct((1, 1408), jnp.int32)
    step = jax.grad(lambda v, x, m, h: loss_of(model, v, x, m, h))
    counted = product_macs(traced(step, variables, video, mask, hidden).jaxpr)
    assert counted == pytest.approx(train_macs(model, 1568, 1408), rel=0.01)


def test_parameters(base):
    """Published: about 94.2 M with the decoder, 86.5 M of the classifier of 400."""
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert count(base[1]) == pytest.approx(94.2e6, rel=2e-3)
    model = create_model("videomae_b16", 400)
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(lambda v: model.init(jax.random.key(0), v), video)
    assert count(shapes) == pytest.approx(86.5e6, rel=2e-3)
