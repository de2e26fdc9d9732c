"""Names of scalars, and the best model of a run by one of them."""

import pathlib
import types

import jax
import pytest

import fluxjax
from fluxjax.checkpoints.inference import read_architecture
from fluxjax.evaluation import registry
from fluxjax.evaluation.base import scalar_name
from fluxjax.evaluation.best import Best, more_is_better
from fluxjax.evaluation.writer import scalars_of
from fluxjax.tasks import create_task
from fluxjax.training.mesh import make_mesh
from tests import tiny
from tests.evaluation.test_evaluators import setting

NAME = "top1_8@4x28"
ALL = ("classification", "held_out", "knn", "linear_probe")


def test_names_are_those_of_the_console():
    assert scalar_name("top1", 512, "8x224") == "top1_512@8x224"
    assert scalar_name("top1", None, "8x224") == "top1@8x224"


def test_every_scalar_is_known_before_anything_is_measured():
    task, variables, data = setting()
    task.config.eval.evaluators = ALL
    try:
        known = registry.scalars_known(task)
        evaluators = registry.make_evaluators(task, make_mesh(), data)
        measured = scalars_of([evaluator.run(variables) for evaluator in evaluators])
    finally:
        task.config.eval.evaluators = ()
    assert list(known) and set(known) == set(measured)
    assert known[NAME] and known["knn/top1_8@4x28"] and not known["held_out/ce_8@4x28"]


def test_every_evaluator_says_its_scalars():
    for name, kind in registry._KINDS.items():
        if isinstance(kind, type) and kind is not object:
            assert callable(getattr(kind, "scalars", None)), name


def chosen(name, every=None, test="demo:easy"):
    config = tiny.get_config()
    config.checkpoint.best, config.eval.every_steps, config.data.test = name, every, test
    return more_is_better(config, create_task(config))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("top1",), "'top1' is no scalar .* there are top1_8@4x28, top1_4@4x28, top1_8@2x28"),
        ((NAME, 0), "set config.eval.every_steps"),
        ((NAME, None, ""), "set data.test"),
    ],
)
def test_what_cannot_be_the_best_of_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        chosen(*arguments)
    assert chosen(NAME) and chosen(NAME, 3)


@pytest.mark.parametrize(
    ("more", "values", "saved"),
    [
        (True, [0.2, 0.5, 0.5, float("nan"), 0.4, 0.6], [0, 1, 5]),
        (False, [float("nan"), 2.0, 3.0, 1.5, 1.5, float("-inf")], [1, 3]),
    ],
)
def test_only_what_is_better_is_saved(tmp_path, more, values, saved):
    best, found = Best(tmp_path / "best", NAME, more), []
    for step, value in enumerate(values):
        best.offer(step, {NAME: value}, lambda step=step: found.append(step))
    assert found == saved


def stored(folder: pathlib.Path, step: int, scores) -> types.SimpleNamespace:
    task = create_task(tiny.get_config())
    variables = jax.eval_shape(task.init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), variables)
    fluxjax.checkpoints.inference.save(
        folder, task.model, zeros, step=step, scores=scores, overwrite=True
    )


def test_a_resumed_run_keeps_the_best_so_far(tmp_path):
    folder = tmp_path / "best"
    stored(folder, 4, {NAME: 0.75, "ce": float("nan")})
    known = read_architecture(folder)
    assert (known.step, known.scores) == (4, {NAME: 0.75})
    resumed, saved = Best(folder, NAME, True), []
    assert not resumed.offer(6, {NAME: 0.5}, lambda: saved.append(6))
    assert not resumed.offer(7, {NAME: 0.75}, lambda: saved.append(7))
    assert resumed.offer(8, {NAME: 0.875}, lambda: saved.append(8))
    other = Best(folder, "top1_4@4x28", True)  # of which nothing is known
    assert other.offer(6, {"top1_4@4x28": 0.1}, lambda: saved.append(9)) and saved == [8, 9]
