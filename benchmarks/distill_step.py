"""The teacher's share of a Flux pre-training step: of its time, and of its memory.

    python -m benchmarks.distill_step --teacher internvideo2_1b14 --model fluxvit_student_b14

The step is the trainer's own, optimizer included, at the published token numbers; the teacher has
random weights. Its share of the time is that of selection and the teacher's pass, in a program of
their own, timed in turns with the step; of the memory, that of its weights. Runs without TensorFlow
and without videos.
"""

import argparse
import statistics
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.report import interleaved, publish, spread
from fluxjax.config.keys import base_config
from fluxjax.tasks.base import Constants
from fluxjax.tasks.distill import DistillTask
from fluxjax.tokens.grids import parse_grid
from fluxjax.training import loop
from fluxjax.training.compilation import CompileCounter, compile_program
from fluxjax.training.memory import held_bytes, program_bytes
from fluxjax.training.mesh import activations_on, put_batch


class RandomTeacher(DistillTask):
    """The task with a teacher of random weights."""

    def constants(self) -> Constants:
        """Small normal weights of the teacher's shapes."""
        shapes = super().constants().shapes
        rng = np.random.default_rng(0)
        draw = lambda x: (0.02 * rng.standard_normal(x.shape, np.float32)).astype(x.dtype)  # noqa: E731
        return Constants(shapes, lambda: jax.tree.map(draw, shapes))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="internvideo2_1b14")
    parser.add_argument("--model", default="fluxvit_student_b14")
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--tokens", type=int, default=2048, help="that the teacher sees")
    parser.add_argument("--budgets", default="2048,1536,1024")
    parser.add_argument("--batch", type=int, default=1, help="clips on all devices")
    parser.add_argument("--dtype", default="float32", help="of both models' computation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", default=None, help="file to write")
    return parser.parse_args()


def make_config(options: argparse.Namespace) -> ConfigDict:
    """Flux-UMT on one grid."""
    grid, config = parse_grid(options.grid), base_config(options.model, "distill")
    config.model.dtype = config.distill.teacher_dtype = options.dtype
    config.distill.teacher_model, config.distill.tokens = options.teacher, options.tokens
    config.budgets = tuple(int(budget) for budget in options.budgets.split(","))
    config.batch_size, config.eval.grids = options.batch, (options.grid,)
    config.grids.frames, config.grids.resolutions = (grid.frames,), (grid.resolution,)
    config.grids.min_tokens = config.grids.max_tokens = grid.tokens()
    return config


def measure(config: ConfigDict, repeats: int) -> dict[str, Any]:
    """The row of the table."""
    task = RandomTeacher(config)
    if task.teacher.depth < 6:  # of a tiny one all blocks are taught
        task.taught_layers = tuple(range(task.teacher.depth))[-len(task.taught_layers) :]
    trainer = loop.Trainer.create(task)
    rng, rows, grid = np.random.default_rng(0), config.batch_size, task.grids[0]
    host = {
        "patches": rng.integers(0, 256, (rows, task.slots, 588), np.uint8),
        "grid": np.tile(np.int32(grid.shape()), (rows, 1)),
        "draw": np.arange(rows, dtype=np.int32),
    }
    batch, state = put_batch(host, trainer.mesh), trainer.initial_state()
    with CompileCounter() as counter:
        (program,) = trainer.compile_steps()

    constants = trainer.step_constants
    with activations_on(trainer.mesh):
        teacher = compile_program("teacher", jax.jit(task.taught), *constants, batch)
    held = {"state": state}

    def step():
        held["state"], metrics = program(held["state"], batch, *constants)
        return metrics

    seconds = interleaved({"step": step, "teacher": lambda: teacher(*constants, batch)}, repeats)
    pairs = zip(seconds["teacher"], seconds["step"], strict=True)
    weights, needed = held_bytes(trainer.abstract_constants), program_bytes(program)
    return {
        "programs": counter.count,
        "step": spread(seconds["step"]),
        "teacher": spread(seconds["teacher"]),
        "its share": f"{statistics.median(part / whole for part, whole in pairs):.0%}",
        "its weights": f"{weights / 2**20:.0f} MiB",
        "of memory": "unknown" if needed is None else f"{weights / needed:.0%}",
    }


def main() -> None:
    """Measures and prints."""
    options = parse()
    names = {"teacher": options.teacher, "student": options.model, "batch": options.batch}
    row = names | measure(make_config(options), options.repeats)
    title = (
        f"Flux pre-training step, {options.grid}, teacher {options.tokens} tokens, students "
        f"{options.budgets}, {options.dtype}; {options.repeats} steps, median and range"
    )
    publish(title, [row], options.json)


if __name__ == "__main__":
    main()
