"""AVION's contrastive and max-margin losses against the official code on one and four ranks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tasks.contrastive import contrastive_loss, max_margin_loss
from tests.golden import fixture


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def close(found, expected):
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("chunk", [None, 5])
def test_contrastive_loss_of_a_group(chunk):
    """AVION's setting on four ranks has the loss and the gradients of one device."""
    case = fixture("avion", "v05")
    inputs = case.inputs

    @functools.partial(jax.jit)
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def loss(w_img, w_txt, log_scale):
        features = unit(inputs["x_img"] @ w_img), unit(inputs["x_txt"] @ w_txt)
        return contrastive_loss(*features, jnp.exp(log_scale), chunk)

    names = ("w_img", "w_txt", "log_scale")
    (value, accuracy), gradients = loss(*(inputs[name] for name in names))
    case.check("global_loss", value, "loss")
    np.testing.assert_allclose(100 * accuracy, case.outputs["global_acc"], rtol=1e-6)
    np.testing.assert_allclose(value, case.outputs["local0_gather1/loss_per_rank"], atol=1e-5)
    for name, gradient in zip(names, gradients, strict=True):
        close(gradient, case.outputs[f"global_grad/{name}"])
        close(gradient, case.outputs[f"local0_gather1/ddp_mean_grad/{name}"])


@pytest.mark.parametrize("chunk", [None, 5])
@pytest.mark.parametrize("diagonal", [False, True], ids=["fixnorm1", "fixnorm0"])
def test_max_margin_loss(diagonal, chunk):
    case = fixture("avion", "v06")
    inputs, kind = case.inputs, f"fixnorm{int(not diagonal)}"
    margin = case.meta["config"]["margin"]

    def loss(weights, offsets):
        video = inputs["x_img"] @ weights[0] + offsets[0]
        text = inputs["x_txt"] @ weights[1] + offsets[1]
        return max_margin_loss(video, text, margin, diagonal=diagonal, chunk=chunk)[0]

    weights = (inputs["w_img"], inputs["w_txt"])
    zeros = (np.zeros((12, 12), np.float32),) * 2
    value, (of_weights, of_features) = jax.jit(jax.value_and_grad(loss, (0, 1)))(weights, zeros)
    np.testing.assert_allclose(value, case.outputs[f"{kind}/loss"], atol=1e-6)
    for name, gradient in zip(("w_img", "w_txt"), of_weights, strict=True):
        close(gradient, case.outputs[f"{kind}/grad/{name}"])
    for name, gradient in zip(("img", "txt"), of_features, strict=True):
        close(gradient, case.outputs[f"{kind}/grad_feat_{name}"])
    if not diagonal:
        np.testing.assert_allclose(value, case.outputs["ddp/loss_per_rank"], atol=1e-6)
        close(of_weights[0], case.outputs["ddp/mean_grad/w_img"])
