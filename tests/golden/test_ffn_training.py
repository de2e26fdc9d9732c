"""FFN's training: schedules, loss and a step against the official code."""

import numpy as np
import pytest

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
