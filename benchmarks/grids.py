"""Training on random sampling grids: one packed program against one program per grid.

    python -m benchmarks.grids --steps 200

Both run the same Flux-Multi train steps on the same clips, compilation included: packed clips are
padded to the largest grid and share one program; dense clips need no padding and compile a program
for each new grid. Runs without TensorFlow and without videos.
"""

import argparse
import time

import jax
import numpy as np

from benchmarks.report import publish
from fluxjax.config.keys import base_config
from fluxjax.options import OptionParser
from fluxjax.tasks import create_task
from fluxjax.tokens.tokens import unpatchify
from fluxjax.training import loop


def make_task(arguments: argparse.Namespace):
    """Flux-Multi over frames x resolutions."""
    config = base_config()
    config.model.name, config.num_classes = arguments.model, 10
    config.batch_size = arguments.batch
    config.total_steps, config.optim.warmup_steps = arguments.steps, arguments.steps // 10
    config.grids.frames = tuple(int(x) for x in arguments.frames.split(","))
    config.grids.resolutions = tuple(int(x) for x in arguments.resolutions.split(","))
    config.grids.min_tokens, config.grids.max_tokens = arguments.min_tokens, arguments.max_tokens
    config.budgets = tuple(int(x) for x in arguments.budgets.split(","))
    config.eval.grids = (f"{config.grids.frames[0]}x{config.grids.resolutions[0]}",)
    return create_task(config)


def draws(task, seed: int):
    """(grid, patches [B, tokens, D] uint8, label) of each step, the same for both ways."""
    config, rng = task.config, np.random.default_rng(seed)
    for _ in range(config.total_steps):
        grid = task.grids[rng.integers(len(task.grids))]
        shape = (config.batch_size, grid.tokens(), 588)
        label = rng.integers(0, 10, config.batch_size, np.int32)
        yield grid, rng.integers(0, 256, shape, np.uint8), label


def packed(task, seed: int) -> tuple[float, int, float]:
    """(wall seconds, programs, last loss) with one program."""
    start = time.perf_counter()
    trainer = loop.Trainer.create(task)
    state, (step,) = trainer.initial_state(), trainer.compile_steps()
    for grid, patches, label in draws(task, seed):
        padding = ((0, 0), (0, task.slots - patches.shape[1]), (0, 0))
        batch = {
            "patches": np.pad(patches, padding),
            "grid": np.tile(np.int32(grid.shape()), (len(label), 1)),
            "label": label,
        }
        state, metrics = step(state, jax.device_put(batch))
    loss = float(metrics["loss"])
    return time.perf_counter() - start, 1, loss


def per_grid(task, seed: int) -> tuple[float, int, float]:
    """(wall seconds, programs, last loss) with a program for each grid that occurs."""
    start = time.perf_counter()
    trainer = loop.Trainer.create(task)
    state = trainer.initial_state()
    plan = task.plans()[0]
    step = jax.jit(lambda state, batch: trainer.step(state, batch, plan), donate_argnums=0)
    for grid, patches, label in draws(task, seed):
        video = np.asarray(unpatchify(patches, grid.shape()))
        state, metrics = step(state, jax.device_put({"video": video, "label": label}))
    loss = float(metrics["loss"])
    return time.perf_counter() - start, step._cache_size(), loss


def main() -> None:
    """Measures and prints."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fluxvit_ti14")
    parser.add_argument("--frames", default="4,6,8,10,12,14,16")
    parser.add_argument("--resolutions", default="42,56,70,84,98")
    parser.add_argument("--min-tokens", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--budgets", default="48,24,12")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1, help="each way, in turns")
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    task = make_task(arguments)
    ways = {"one packed program": packed, "one program per grid": per_grid}
    rows, seconds = [], {name: [] for name in ways}
    for repeat in range(arguments.repeats):
        for name, way in ways.items():
            jax.clear_caches()  # each way pays for its own compilation
            wall, programs, loss = way(task, repeat)
            seconds[name].append(wall)
            rows.append(
                {"run": repeat, "way": name, "programs": programs, "wall s": f"{wall:.1f}",
                 "last loss": f"{loss:.4f}"}
            )  # fmt: skip
    for repeat, pair in enumerate(zip(*seconds.values(), strict=True)):
        ratio = f"{pair[1] / pair[0]:.2f}"
        rows.append({"run": repeat, "way": "ratio", "programs": "", "wall s": ratio,
                     "last loss": ""})  # fmt: skip
    publish(
        f"{arguments.model}, {arguments.steps} steps of {arguments.batch} clips over "
        f"{len(task.grids)} grids of up to {task.slots} tokens, budgets {arguments.budgets}",
        rows,
        arguments.json,
    )


if __name__ == "__main__":
    main()
