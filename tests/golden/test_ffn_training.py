"""FFN's training: schedules, loss and a step against the official code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.augment.mixing import Mixing, apply, smooth_one_hot
from fluxjax.tasks.frame_flexible import distillation_terms
from fluxjax.tokens.tokens import Tokens
from fluxjax.training.schedules import half_cosine, ramped, step_decay
from tests.golden import fixture

RATES = fixture("ffn", "v11")
TSM = step_decay(0.01, 0.1, (20, 40))
TEA = step_decay(0.02, 0.1, (30, 40, 45))
SLOWFAST = ramped(step_decay(0.03, 0.1, (14, 18)), 0.19, 22, 1e-4)
UNIFORMER = ramped(half_cosine(2e-4, 1e-6, 60, first=5), 5, 60, 1e-6)


@pytest.mark.parametrize(
    ("schedule", "epochs", "rates"),
    [
        (TSM, np.arange(50), "tsm_lr_epoch"),
        (TEA, np.arange(50), "tea_lr_epoch"),
        (SLOWFAST, RATES.outputs["slowfast_epoch"], "slowfast_lr"),
        (UNIFORMER, RATES.outputs["uniformer_epoch"], "uniformer_lr"),
    ],
    ids=["tsm", "tea", "slowfast", "uniformer"],
)
def test_schedules(schedule, epochs, rates):
    found = [float(schedule(epoch)) for epoch in epochs]
    np.testing.assert_allclose(found, RATES.outputs[rates], rtol=1e-6)


LOSS = fixture("ffn", "v08")
LOGITS = [LOSS.inputs[f"logits_{branch}"] for branch in "HML"]


def weighted(logits, targets, weight):
    terms = distillation_terms(logits, targets, (16, 8, 4), weight)
    return sum(value * factor for value, factor in terms.values()), terms


@pytest.mark.parametrize("case", ["lam1.0", "lam0.5", "soft"])
def test_loss_and_gradients_of_logits(case):
    weight = 0.5 if case == "lam0.5" else 1.0
    targets = smooth_one_hot(LOSS.inputs["logit_label"], 12, 0.0)
    if case == "soft":
        targets = LOSS.outputs["soft_target"]
    (total, terms), grads = jax.value_and_grad(weighted, has_aux=True)(LOGITS, targets, weight)
    wanted = {"total": total, "ce": terms["ce"][0]}
    if case != "soft":
        wanted |= {"kl_L": weight * terms["kl_4"][0], "kl_M": weight * terms["kl_8"][0]}
    for name, value in wanted.items():
        np.testing.assert_allclose(value, LOSS.outputs[f"{case}_{name}"], rtol=1e-5)
    for branch, found in zip("HML", grads, strict=True):
        expected = LOSS.outputs[f"{case}_grad_logits_{branch}"]
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-4)


def test_soft_targets_are_mixups():
    """The fixture's: share 0.3, smoothing 0.1, partner B - 1 - i."""
    labels = LOSS.inputs["logit_label"]
    mixing = Mixing(jnp.float32(0.3), jnp.zeros(4, jnp.int32), jnp.bool_(False))
    tokens = Tokens.from_video(jnp.zeros((6, 1, 4, 4, 3)), 4)
    _, targets = apply(tokens, labels, mixing, 12, smoothing=0.1)
    np.testing.assert_allclose(targets, LOSS.outputs["soft_target"], rtol=1e-6)
