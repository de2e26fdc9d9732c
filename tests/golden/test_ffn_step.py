"""A training step of a small TSM-FFN against the official code, with both forms of its shift.

The task's loss, the model's statistics and the optimizer's groups: what a run does in a step.
"""

import jax
import numpy as np
import optax
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.tasks import create_task
from fluxjax.training.optimizers import make_optimizer
from fluxjax.training.schedules import learning_rate
from tests.golden import fixture

pytestmark = pytest.mark.slow  # compiles a step of either form

STEP = fixture("ffn", "v08")
if "video" not in STEP.inputs:  # 1.3 MB
    pytest.skip("FLUXJAX_GOLDEN names a folder with the whole case", allow_module_level=True)


def task_of(model, shift):
    """The task on the fixture's network; a batch's rate is 0.01 and falls at step 50."""
    config = base_config("tsm_ti_ffn", "frame_flexible")
    config.method, config.budgets, config.num_classes = "cross_entropy", (), model.num_classes
    for field in ("layers", "widths", "stem", "bottleneck"):
        config.model[field] = getattr(model, field)
    config.model.shift, config.model.dropout = shift, 0.0
    config.grids.frames = (4, 8, 16)
    config.grids.resolutions = (STEP.inputs["video"].shape[-1],)
    config.batch_size = len(STEP.inputs["label"])
    config.optim.update({"name": "sgd", "schedule": "steps", "warmup_steps": 0})
    config.optim.weight_decay, config.optim.head_lr_scale = 5e-4, 5.0
    config.optim.head_bias_lr_scale = 10.0
    config.optim.lr = 0.01 * 256 / config.batch_size
    config.optim.decay_steps = (50,)
    return create_task(config)


@pytest.fixture(scope="module", params=["fixed", "leak"])
def stepped(request):
    """(mode, loss output, gradients, new parameters and statistics), the last under torch names."""
    model, variables = fluxjax.load_torch("ffn", STEP.params)
    task = task_of(model, {"fixed": "clip"}.get(request.param, request.param))
    clips = np.split(STEP.inputs["video"].transpose(0, 1, 3, 4, 2), (16, 24), axis=1)  # H | M | L
    batch = {f"frames{clip.shape[1]}_video": clip for clip in clips}
    batch["label"] = STEP.inputs["label"]

    @jax.jit
    def step(variables, batch):
        def loss(params):
            merged = variables | {"params": params}
            output = task.loss(merged, batch, jax.random.key(0), task.plans()[0])
            return output.total, output

        params = variables["params"]
        (_, output), grads = jax.value_and_grad(loss, has_aux=True)(params)
        optimizer = make_optimizer(task.config, task.groups(params), learning_rate(task.config))
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return output, grads, optax.apply_updates(params, updates)

    output, grads, params = step(variables, batch)
    after = fluxjax.to_torch(task.model, {"params": params, **output.mutable})
    return request.param, output, grads, after


def test_loss(stepped):
    mode, output, _, _ = stepped
    terms = {name: value for name, (value, _) in output.terms.items()}
    found = {"total": output.total, "ce": terms["ce"], "kl_L": terms["kl_4"], "kl_M": terms["kl_8"]}
    for name, value in found.items():
        np.testing.assert_allclose(value, STEP.outputs[f"{mode}/{name}"], rtol=1e-5)


def test_the_gradients_norm(stepped):
    mode, _, grads, _ = stepped
    expected = STEP.outputs[f"{mode}/grad_norm_all"]
    np.testing.assert_allclose(optax.tree.norm(grads), expected, rtol=1e-4)


def test_statistics_and_parameters_after_the_step(stepped):
    mode, *_, after = stepped
    checked = 0
    for output, expected in STEP.outputs.items():
        if output.startswith((f"{mode}/state/", f"{mode}/after_step/")):
            name = output.split("/", 2)[2]
            np.testing.assert_allclose(after[name], expected, atol=1e-5, rtol=1e-4, err_msg=name)
            checked += 1
    assert checked == 7
