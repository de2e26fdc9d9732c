"""UMT's models from each other: students, classifiers, models of video and text."""

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.starting import start_from
from fluxjax.config.keys import base_config
from fluxjax.tasks import create_task
from fluxjax.weight_files.errors import WeightsError
from tests.models.test_umt import SIZES, TEXT

CLIP = np.zeros((1, 2, 8, 8, 3), np.uint8)
FIELDS = {
    "umt_classifier_ti8": {"grid": (2, 2, 2), "num_classes": 3},
    "umt_student_ti8": {"taught_layers": 2, "taught_width": 8},
    "umt_ti8": TEXT,
}


def made(name, seed, **more):
    """A model of a registered name, and random variables."""
    fields = {"num_classes": None} | SIZES | FIELDS[name] | more
    model = fluxjax.create_model(name, fields.pop("num_classes"), **fields)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), CLIP)
    return model, jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def encoder_of(variables):
    params = variables["params"]
    return params["vision"]["encoder"] if "vision" in params else params["encoder"]


@pytest.mark.parametrize(
    ("source", "target", "fresh"),
    [
        ("umt_classifier_ti8", "umt_ti8", ("text", "vision_proj", "match_head")),
        ("umt_student_ti8", "umt_classifier_ti8", ("fc_norm", "head")),
        ("umt_classifier_ti8", "umt_classifier_ti8", ()),
    ],
)
def test_the_encoder_is_taken_and_the_rest_stays_new(source, target, fresh):
    (given, stored), (model, initial) = made(source, 1), made(target, 2)
    started = start_from(given, stored, model, initial, "there")
    jax.tree.map(np.testing.assert_array_equal, encoder_of(started), encoder_of(stored))
    for name in fresh:
        jax.tree.map(np.testing.assert_array_equal, started["params"][name],
                     initial["params"][name])  # fmt: skip


def test_positions_of_another_scale_are_refused():
    (given, stored), (model, initial) = made("umt_classifier_ti8", 1), made("umt_ti8", 2)
    with pytest.raises(WeightsError, match=r"position_scale=1\.0 not 4\.0"):
        start_from(given, stored, model.clone(position_scale=4.0), initial, "there")


def test_questions_start_from_a_classifier_of_videos(tmp_path):
    """Its text and its decoder of answers stay new: there is nothing to copy."""
    given, stored = made("umt_classifier_ti8", 1)
    fluxjax.save(tmp_path / "model", given, stored)
    config = base_config("umt_ti8", "answer")
    config.model.update(SIZES | TEXT)
    config.grids.frames, config.grids.resolutions, config.eval.grids = (2,), (8,), ("2x8",)
    task = create_task(config)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    initial = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), shapes)
    started = task.start_from(str(tmp_path / "model"), initial)
    jax.tree.map(np.testing.assert_array_equal, encoder_of(started), encoder_of(stored))
    for name in ("text", "answers"):
        assert all(np.all(x == 0.5) for x in jax.tree.leaves(started["params"][name])), name
