"""Time of a Flux-Multi train step, and the share of it that budget flexibility costs.

    python -m benchmarks.train_step --model fluxvit_s14 --grid 12x224 --budgets 3072,2048,1024

The share is that of embedding + selection + positions, forward and backward, for all budgets. Runs
without TensorFlow and without videos.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.report import interleaved, publish, spread
from fluxjax.config import base_config
from fluxjax.grids import parse_grid
from fluxjax.tasks import create_task
from fluxjax.training import loop
from fluxjax.training.compilation import compile_program


def make_config(arguments: argparse.Namespace):
    """A Flux-Multi config on one grid."""
    grid, config = parse_grid(arguments.grid), base_config()
    config.model.name, config.model.dtype = arguments.model, arguments.dtype
    config.model.attention = arguments.attention
    config.num_classes, config.batch_size = 400, arguments.batch
    config.budgets = tuple(int(budget) for budget in arguments.budgets.split(","))
    config.grids.frames, config.grids.resolutions = (grid.frames,), (grid.resolution,)
    config.grids.min_tokens = config.grids.max_tokens = grid.tokens()
    config.eval.grids = (arguments.grid,)
    return config, grid


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fluxvit_s14")
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--budgets", default="3072,2048,1024")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--attention", default="xla")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    config, grid = make_config(arguments)
    task = create_task(config)
    trainer = loop.Trainer.create(task)
    state = trainer.initial_state()
    rng = np.random.default_rng(0)
    batch = {
        "patches": rng.integers(0, 256, (arguments.batch, task.slots, 588), np.uint8),
        "grid": np.tile(np.int32(grid.shape()), (arguments.batch, 1)),
        "label": np.zeros(arguments.batch, np.int32),
    }
    batch = jax.tree.map(jnp.asarray, batch)

    def edges(variables, batch):
        """Embedding, selection and positions of every budget; the trunk left out."""
        embedded, positions = task.model.apply(variables, task.tokens(batch), method="embed")
        inputs = task.model.apply(
            variables, embedded, positions, task.budgets, method="_trunk_inputs"
        )
        return sum(jnp.sum(x * x) for x, _ in inputs)

    def whole(variables, batch):
        plan = task.plans()[0]
        return task.loss(variables, batch, jax.random.key(0), plan).total

    variables = state.variables()
    programs = {}
    for name, function in (("loss and gradients", whole), ("embed, select, position", edges)):
        grad = jax.jit(jax.value_and_grad(function))
        programs[name] = compile_program(name, grad, variables, batch)
    tx = optax.adamw(1e-3)
    opt_state = tx.init(variables)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p))
    grads = programs["loss and gradients"](variables, batch)[1]
    seconds = interleaved(
        {
            **{name: (lambda f=f: f(variables, batch)) for name, f in programs.items()},
            "optimizer update": lambda: update(grads, opt_state, variables),
        },
        arguments.repeats,
    )
    step = [sum(times) for times in zip(seconds["loss and gradients"], seconds["optimizer update"],
                                        strict=True)]  # fmt: skip
    shares = [part / all_ for part, all_ in zip(seconds["embed, select, position"], step,
                                                strict=True)]  # fmt: skip
    title = (
        f"{arguments.model}, {arguments.grid}, budgets {arguments.budgets}, "
        f"batch {arguments.batch}, {arguments.dtype}, {arguments.repeats} interleaved runs"
    )
    rows = [{"part": name, "median (range)": spread(times)} for name, times in seconds.items()]
    rows.append({"part": "clips/s of the step",
                 "median (range)": f"{arguments.batch / statistics.median(step):.3g}"})  # fmt: skip
    rows.append({"part": "share of embed, select, position",
                 "median (range)": f"{statistics.median(shares):.1%}"})  # fmt: skip
    publish(title, rows, arguments.json)


if __name__ == "__main__":
    main()
