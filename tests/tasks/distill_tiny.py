"""A teacher and a student that are trained in milliseconds, and batches for them."""

import jax
import numpy as np

import fluxjax
from fluxjax.config.keys import base_config

TEACHER = {
    "width": 16, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0, "grid": (4, 2, 2), "pooled": 8,
    "pool_heads": 2,
}  # fmt: skip


def write_teacher(folder, seed=0, scale=0.3, **fields):
    """An inference checkpoint of random weights, large enough that tokens differ; its path."""
    model = fluxjax.create_model("internvideo2_ti14", 0, **(TEACHER | fields))
    video = np.zeros((1, 2, 28, 28, 3), np.float32)
    rng = np.random.default_rng(seed)
    draw = lambda x: rng.standard_normal(x.shape, np.float32) * scale  # noqa: E731
    variables = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), video))
    fluxjax.save(folder, model, variables)
    return str(folder)


def distill_config(teacher, name="fluxvit_student_ti14"):
    """Flux-UMT in small: the teacher sees 8 tokens of 8 to 36, the student 8, 6 and 4 of these."""
    config = base_config(name, "distill")
    sizes = {"width": 16, "depth": 2, "num_heads": 2, "grid": (4, 2, 2), "pooled": 16,
             "pool_heads": 2, "layer_scale": 1.0}  # fmt: skip
    config.model.update(sizes | {"taught_layers": 2})
    config.budgets = (8, 6, 4)
    config.distill.teacher, config.distill.tokens = teacher, 8
    config.distill.teacher_interval = 1.0
    config.grids.frames, config.grids.resolutions = (2, 4, 6, 8), (14, 28, 42)
    config.grids.min_tokens, config.grids.max_tokens = 8, 36
    config.eval.grids, config.eval.budgets, config.eval.batch_size = ("4x28",), (8,), 8
    config.total_steps, config.batch_size, config.log_every = 4, 8, 1
    config.optim.warmup_steps = 0
    config.checkpoint.every_steps = 2
    config.data.flip = False
    return config


def batch_of(task, grid, seed=0, size=None):
    """Random clips on a grid, numbered from `seed`."""
    size = size or task.config.batch_size
    rng = np.random.default_rng(seed)
    patches = np.zeros((size, task.slots, task.patch**2 * 3), np.uint8)
    patches[:, : grid.tokens(task.patch)] = rng.integers(
        0, 256, (size, grid.tokens(task.patch), patches.shape[2]), np.uint8
    )
    return {
        "patches": patches,
        "grid": np.tile(np.int32(grid.shape(task.patch)), (size, 1)),
        "draw": np.arange(seed * 1000, seed * 1000 + size, dtype=np.int32),
        "example": np.zeros(size, np.int64),
    }
