"""A training step of TSM, frame flexible, against the official code: logits, gradients, statistics.

With both forms of the shift: of every clip, and the released one that leaks between clips.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxjax
from tests.golden import fixture


def distillation(logits, labels):
    """The official loss of [low, middle, high] logits."""
    target = jax.lax.stop_gradient(jax.nn.log_softmax(logits[2]))
    loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits[2], labels))
    for student in logits[:2]:
        divergence = jnp.exp(target) * (target - jax.nn.log_softmax(student))
        loss += jnp.mean(jnp.sum(divergence, axis=-1))
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("shift, name", [("leak", "leak"), ("clip", "fixed")])
def test_logits_gradients_and_statistics_of_a_training_step(shift, name):
    case = fixture("ffn", "v08")
    model, variables = fluxjax.load_torch("ffn", case.params, shift=shift)
    assert model.dropout == 0  # its classifier has the name of one without
    video = np.moveaxis(case.inputs["video"], 2, -1)
    clips = [video[:, 24:], video[:, 16:24], video[:, :16]]  # stored from high to low

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def step(params, stats):
        logits = []
        for clip in clips:
            found, changed = model.apply(
                {"params": params, "batch_stats": stats}, clip, train=True, mutable=["batch_stats"]
            )
            stats = changed["batch_stats"]
            logits.append(found)
        return distillation(logits, case.inputs["label"]), (logits, stats)

    grads, (logits, stats) = step(variables["params"], variables["batch_stats"])
    suggested = case.meta["suggested_rtol"], case.meta["suggested_atol"]
    for branch, found in zip("LMH", logits, strict=True):
        np.testing.assert_allclose(found, case.outputs[f"{name}/logits_{branch}"], *suggested)
    found = fluxjax.to_torch(model, {"params": grads, "batch_stats": stats})
    checked = 0
    for output in case.outputs:
        mode, _, rest = output.partition("/")
        kind, _, parameter = rest.partition("/")
        if mode == name and kind in ("grad", "state"):
            case.check(output, found[parameter], "grads")
            checked += 1
    assert checked == 17
    norm = optax.tree.norm(grads)
    np.testing.assert_allclose(norm, case.outputs[f"{name}/grad_norm_all"], rtol=1e-4)
