"""A training step of a small TSM-FFN against the official code, with both forms of its shift.

The task's loss, the model's statistics and the optimizer's groups: what a run does in a step.
"""

import re

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from fluxjax.config.keys import base_config
from fluxjax.tasks import create_task
from fluxjax.training.optimizers import make_optimizer
from fluxjax.training.schedules import learning_rate
from tests.golden import fixture

pytestmark = pytest.mark.slow  # compiles a step of either form

STEP = fixture("ffn", "v08")
SIZES = STEP.meta["config"]
LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def place(name):
    """(collection, path) of one of the release's names."""
    name = name.removeprefix("base_model.")
    name = re.sub(r"^layer(\d)\.(\d+)\.", r"layer\1_\2.", name).replace("fc.", "head.")
    *path, leaf = name.split(".")
    module, _, branch = path[-1].rpartition("_")
    if not branch.isdecimal() or module.startswith("layer"):
        return "params", (*path, "kernel" if leaf == "weight" else leaf)
    if module == "adaconv":
        return "params", (*path[:-1], "adapter", f"frames_{branch}")
    kind = "batch_stats" if leaf.startswith("running") else "params"
    return kind, (*path[:-1], module, f"frames_{branch}", LEAVES[leaf])


def ours(name, value):
    """A value of the release in our layout."""
    if "adaconv" in name:
        return value.reshape(-1)
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T


def variables_of(params):
    found = {"params": {}, "batch_stats": {}}
    for name, value in params.items():
        if not name.endswith("num_batches_tracked"):
            collection, path = place(name)
            found[collection][path] = ours(name, value)
    return {collection: unflatten_dict(flat) for collection, flat in found.items()}


def task_of(shift):
    config = base_config("tsm_ti_ffn", "frame_flexible")
    config.method, config.budgets, config.num_classes = "cross_entropy", (), SIZES["num_class"]
    config.model.update({"layers": tuple(SIZES["layers"]), "planes": tuple(SIZES["widths"]),
                         "stem": SIZES["stem"], "dropout": 0.0, "shift": shift})  # fmt: skip
    config.grids.frames, config.grids.resolutions = (4, 8, 16), (SIZES["hw"],)
    config.batch_size = SIZES["batch"]
    config.optim.update({"name": "sgd", "schedule": "steps", "warmup_steps": 0})
    config.optim.weight_decay, config.optim.head_lr_scale = 5e-4, 5.0
    config.optim.head_bias_lr_scale = 10.0
    config.optim.lr = 0.01 * 256 / config.batch_size
    config.optim.decay_steps = (50,)
    return create_task(config)


@pytest.fixture(scope="module", params=["fixed", "leak"])
def stepped(request):
    """(mode, logits, loss output, gradients, parameters after the step)."""
    task = task_of({"fixed": "clip", "leak": "leak"}[request.param])
    variables = variables_of(STEP.params)
    wanted = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda x: x.shape, wanted)
    video = STEP.inputs["video"].transpose(0, 1, 3, 4, 2)
    clips = np.split(video, (16, 24), axis=1)  # H | M | L
    batch = {f"frames{clip.shape[1]}_video": clip for clip in clips}
    batch["label"] = STEP.inputs["label"]

    @jax.jit
    def step(variables, batch):
        def loss(params):
            merged = variables | {"params": params}
            output = task.loss(merged, batch, jax.random.key(0), task.plans()[0])
            videos = [batch[clip.key("video")] for clip in task.clips]
            return output.total, (output, task._forward(merged, videos, jax.random.key(0))[0])

        params = variables["params"]
        (_, (output, logits)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        groups = task.groups(params)
        optimizer = make_optimizer(task.config, groups, learning_rate(task.config))
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return logits, output, grads, optax.apply_updates(params, updates)

    return request.param, *step(variables, batch)


def test_loss_and_logits(stepped):
    mode, logits, output, *_ = stepped
    for branch, found in zip("HML", logits, strict=True):
        expected = STEP.outputs[f"{mode}/logits_{branch}"]
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    terms = {name: value for name, (value, _) in output.terms.items()}
    found = {"total": output.total, "ce": terms["ce"], "kl_L": terms["kl_4"], "kl_M": terms["kl_8"]}
    for name, value in found.items():
        np.testing.assert_allclose(value, STEP.outputs[f"{mode}/{name}"], rtol=1e-5)


def under(mode, kind):
    prefix = f"{mode}/{kind}/"
    return {name.removeprefix(prefix): value for name, value in STEP.outputs.items()
            if name.startswith(prefix)}  # fmt: skip


def test_gradients(stepped):
    mode, _, _, grads, _ = stepped
    flat = flatten_dict(grads)
    assert len(under(mode, "grad")) == 14
    for name, expected in under(mode, "grad").items():
        found = flat[place(name)[1]]
        np.testing.assert_allclose(found, ours(name, expected), atol=2e-4, rtol=2e-3, err_msg=name)
    norm = optax.tree.norm(grads)
    np.testing.assert_allclose(norm, STEP.outputs[f"{mode}/grad_norm_all"], rtol=1e-4)


def test_statistics_and_parameters_after_the_step(stepped):
    mode, _, output, _, params = stepped
    after = {
        "params": flatten_dict(params),
        "batch_stats": flatten_dict(output.mutable["batch_stats"]),
    }
    expected = under(mode, "state") | under(mode, "after_step")
    assert len(expected) == 7
    for name, value in expected.items():
        collection, path = place(name)
        found = after[collection][path]
        np.testing.assert_allclose(found, ours(name, value), atol=1e-5, rtol=1e-4, err_msg=name)
