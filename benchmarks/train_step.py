"""Time of a Flux-Multi train step, its FLOPs a second, and the share that flexibility costs.

    python -m benchmarks.train_step --model fluxvit_s14 --grid 12x224 --budgets 3072,2048,1024

Options take several values, separated by spaces: a row for each combination. The step is the
trainer's own, optimizer included, on a mesh of all devices. The share is that of embedding +
selection + positions, forward and backward, timed in turns with the step. Runs without TensorFlow
and without videos.
"""

import argparse
import itertools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.report import interleaved, publish, spread
from fluxjax.config.keys import base_config
from fluxjax.models.attention_choice import plain_attention
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import parse_grid
from fluxjax.training import loop
from fluxjax.training.compilation import CompileCounter, compile_program
from fluxjax.training.flops import count_flops
from fluxjax.training.mesh import activations_on, put_batch

# Dense bfloat16 products a second of one device, by its name; vendors' data sheets.
PEAK_TFLOPS = {
    "A100": 312,
    "H100 PCIe": 756,
    "H100": 989,
    "H200": 989,
    "L4": 121,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5p": 459,
    "TPU v6 lite": 918,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["fluxvit_s14"])
    parser.add_argument("--grid", nargs="+", default=["12x224"])
    parser.add_argument("--budgets", nargs="+", default=["3072,2048,1024"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="clips on all devices")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--mesh", nargs="+", default=[""], help="e.g. data=2,fsdp=2,tensor=2")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    return parser.parse_args()


def make_config(
    model: str, grid_name: str, budgets: str, batch: int, dtype: str, mesh: str, **options: str
) -> ConfigDict:
    """A Flux-Multi config on one grid; `options` are of the model."""
    grid, config = parse_grid(grid_name), base_config()
    config.model.update(name=model, dtype=dtype, **options)
    config.num_classes, config.batch_size = 400, batch
    config.budgets = tuple(int(budget) for budget in budgets.split(","))
    config.grids.frames, config.grids.resolutions = (grid.frames,), (grid.resolution,)
    config.grids.min_tokens = config.grids.max_tokens = grid.tokens()
    config.eval.grids = (grid_name,)
    for part in filter(None, mesh.split(",")):
        axis, size = part.split("=")
        config.mesh[axis] = int(size)
    return config


def measure(config: ConfigDict, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    task = create_task(config)
    trainer = loop.Trainer.create(task)
    grid = parse_grid(config.eval.grids[0])
    rng = np.random.default_rng(0)
    rows = config.batch_size
    batch = put_batch(
        {
            "patches": rng.integers(0, 256, (rows, task.slots, 588), np.uint8),
            "grid": np.tile(np.int32(grid.shape()), (rows, 1)),
            "label": np.zeros(rows, np.int32),
        },
        trainer.mesh,
    )
    state = trainer.initial_state()
    with CompileCounter() as counter:
        start = time.perf_counter()
        (program,) = trainer.compile_steps()
        compile_seconds = time.perf_counter() - start

    def edges(variables, batch):
        """Embedding, selection and positions of every budget; the trunk left out."""
        embedded, positions = task.model.apply(variables, task.tokens(batch), method="embed")
        inputs = task.model.apply(variables, embedded, positions, task.budgets, method="_kept")
        return sum(jnp.sum(jnp.square(x.values), dtype=jnp.float32) for x in inputs)

    variables = state.variables()
    with activations_on(trainer.mesh):
        ends = compile_program("edges", jax.jit(jax.value_and_grad(edges)), variables, batch)
    held = {"state": state, "copy": jax.tree.map(jnp.copy, variables)}

    def step():
        held["state"], metrics = program(held["state"], batch)
        return metrics

    seconds = interleaved({"step": step, "edges": lambda: ends(held["copy"], batch)}, repeats)
    typical = statistics.median(seconds["step"])
    shares = [part / all_ for part, all_ in zip(seconds["edges"], seconds["step"], strict=True)]
    flops = step_flops(task) * rows
    peak = peak_flops(config.model.dtype) * trainer.mesh.size
    return {
        "compile": f"{counter.count} in {compile_seconds:.0f} s",
        "step": spread(seconds["step"]),
        "clips/s": f"{rows / typical:.3g}",
        "tokens/s": f"{rows * sum(task.budgets) / typical:.4g}",
        "model TFLOP/s": f"{flops / typical / 1e12:.3g}",
        "MFU": f"{flops / typical / peak:.1%}" if peak else "peak unknown",
        "embed, select, position": f"{statistics.median(shares):.1%}",
    }


def step_flops(task) -> float:
    """FLOP of a clip's step: three times the forward pass at every budget, no recomputation.

    A gradient costs two products for each one of the forward pass.
    """
    side, frames = task.grids[0].resolution, task.grids[0].frames
    variables = jax.eval_shape(task.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, frames, side, side, 3), jnp.float32)

    def forward(variables, video):
        return task.model.apply(variables, video, task.budgets, method="forward_budgets")

    with plain_attention():
        return 3 * count_flops(jax.make_jaxpr(forward)(variables, video))


def peak_flops(dtype: str) -> float:
    """Of one device, FLOP/s; 0 where it is not known (CPUs, float32)."""
    kind = jax.devices()[0].device_kind
    names = (name for name in PEAK_TFLOPS if dtype == "bfloat16" and name in kind)
    return PEAK_TFLOPS.get(next(names, ""), 0) * 1e12


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    options = {"attention": arguments.attention, "remat": arguments.remat}
    names = ("model", "grid", "budgets", "batch", "dtype", "mesh")
    rows = []
    for values in itertools.product(*(getattr(arguments, name) for name in names)):
        row = measure(make_config(*values, **options), arguments.repeats)
        jax.clear_caches()
        rows.append({**dict(zip(names, values, strict=True)), **row})
        rows[-1]["mesh"] = rows[-1]["mesh"] or f"data={jax.device_count()}"
    title = (
        f"Flux-Multi train step, attention {arguments.attention}, remat {arguments.remat}; "
        f"{arguments.repeats} steps, median and range"
    )
    publish(title, rows, arguments.json)


if __name__ == "__main__":
    main()
