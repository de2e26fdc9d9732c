"""System A of the task `distill`: a CLIP teacher of single frames, masks of every frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.config.keys import base_config, check_config
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.umt_vision import UmtVision
from fluxjax.tasks import create_task
from fluxjax.tasks.distill_models import seen_by_teacher
from fluxjax.tokens.tokens import IMAGENET_PIXELS, Tokens, normalize_pixels
from tests.tasks.distill_tiny import batch_of, distill_config, write_teacher

TEACHER = {"width": 16, "depth": 3, "num_heads": 2, "grid": (2, 2), "embedding": 12}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "model"
    model = fluxjax.create_model("clip_ti8", None, **TEACHER)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 16, 16, 3), np.float32))
    draw = lambda x: 0.3 * rng.standard_normal(x.shape, np.float32)  # noqa: E731
    fluxjax.save(folder, model, jax.tree.map(draw, shapes))
    return str(folder)


def config_of(teacher):
    """Four frames of 3 x 3 tokens; the student sees two of each frame."""
    config = base_config("umt_student_ti8", "distill")
    config.model.update({"width": 16, "depth": 2, "num_heads": 2, "taught_layers": 2})
    config.budgets, config.distill.teacher = (8,), teacher
    config.distill.teacher_interval, config.distill.mask_over = 1.0, "frame"
    config.grids.frames, config.grids.resolutions = (4,), (24,)
    config.grids.min_tokens = config.grids.max_tokens = 36
    config.eval.grids, config.eval.batch_size = ("4x24",), 8
    config.batch_size, config.data.flip = 4, False
    return config


def test_a_step_trains_the_student_on_tokens_of_every_frame(teacher):
    task = create_task(config_of(teacher))
    assert task.model.taught_width == 12 and task.taught_layers == (1, 2)
    host = batch_of(task, task.grids[0])
    batch = {name: jnp.asarray(host[name]) for name in task.batch_spec(4)}
    variables = {**task.init(jax.random.key(0)), **task.constants().load()}
    assert {x.dtype.name for x in jax.tree.leaves(variables["teacher"])} == {"bfloat16"}

    @jax.jit
    def run(params, batch):
        def total(params):
            output = task.loss({**variables, "params": params}, batch, jax.random.key(0), None)
            return output.total, output.metrics

        clips = task.tokens(batch)
        attention = jnp.ones(clips.valid.shape)
        features = task.features(variables, batch, None)
        (visible,) = task._visible(attention, clips, batch["draw"])
        return jax.value_and_grad(total, has_aux=True)(params), visible.index, features

    ((loss, metrics), grads), index, features = run(variables["params"], batch)
    assert 0 < loss < 4 and list(metrics) == ["middle_8"]
    np.testing.assert_allclose(loss, metrics["middle_8"], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(index) // 9, [[0, 0, 1, 1, 2, 2, 3, 3]] * 4)
    assert all(np.any(g) for g in jax.tree.leaves(grads)) and features.shape == (4, 16)


def test_the_teacher_sees_the_students_pixels():
    """Normalised as the student's, not as CLIP's, at the teacher's own resolution."""
    student, video = UmtVision(patch=8), np.full((1, 2, 16, 24, 3), 100, np.uint8)
    shown = seen_by_teacher(Tokens.from_video(video, 8), student, ClipImage(patch=8))
    expected = normalize_pixels(np.uint8([100] * 3), IMAGENET_PIXELS)
    np.testing.assert_allclose(shown.values.reshape(-1, 3)[7], expected, rtol=1e-6)
    smaller = seen_by_teacher(Tokens.from_video(video, 8), student, ClipImage(patch=6))
    assert smaller.static_grid == (2, 2, 3) and smaller.values.shape == (1, 12, 108)
    np.testing.assert_allclose(smaller.values.reshape(-1, 3)[7], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (6,)}, r"budgets \(6,\) must be multiples of 4"),
        ({"distill.tokens": 12}, "need config.distill.tokens=None and one grid"),
        ({"eval.grids": ("4x24", "2x24")}, "one grid in .* not 2x24, 4x24"),
        ({"model.tubelet": 2}, "config.model.tubelet=2 must be 1"),
        ({"distill.distance": "l1"}, "config.distill.distance='l1' must be one of"),
    ],
)
def test_wrong_configs_are_named(teacher, change, message):
    config = config_of(teacher)
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        check_config(config)


def test_teachers_and_students_that_do_not_fit_are_named(teacher, tmp_path):
    with pytest.raises(ValueError, match="ClipImage cannot teach 'fluxvit_student_ti14'"):
        check_config(distill_config(teacher))
    other = config_of(write_teacher(tmp_path / "other"))
    with pytest.raises(ValueError, match="InternVideo2 cannot teach 'umt_student_ti8'"):
        check_config(other)
    model = fluxjax.create_model("clip_ti8", 0, **{**TEACHER, "embedding": None})
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1, 16, 16, 3)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
    fluxjax.save(tmp_path / "headless", model, zeros)
    with pytest.raises(ValueError, match="has no projection of CLIP"):
        check_config(config_of(str(tmp_path / "headless")))
