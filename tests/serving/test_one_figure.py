"""One figure of GMACs: the table of training and evaluate, and that of budgets and export."""

import jax
import pytest

from fluxjax.budgets import measure
from fluxjax.evaluation.compute import forward_gmacs
from fluxjax.serving.settings import make_setting
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests import tiny


@pytest.mark.parametrize("config", [tiny.get_config(), tiny.evl_config()], ids=["flux", "evl"])
@pytest.mark.parametrize("budget", [8, 16, 99])
def test_gmacs_of_training_are_those_of_budgets_and_export(config, budget):
    config.init_from = "given"
    task, grid = create_task(config), Grid(4, 28)
    variables = jax.eval_shape(task.init, jax.random.key(0))
    setting = make_setting(task.model, grid, budget)
    assert forward_gmacs(task, grid, budget) == measure.gmacs(task.model, variables, setting) > 0
