"""Wall time of UMT's video encoder, plain against merged, beside what is saved in products.

    python -m benchmarks.umt_merging --model umt_vision_b16 --grid 12x224 --batch 8

`share` is the saved time over the saved multiply-accumulates, both relative to the plain encoder:
1 where merging itself costs nothing.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import interleaved, publish, spread
from fluxjax.budgets.schedules import parse_schedule, schedule_name
from fluxjax.models import create_model
from fluxjax.models.umt_compute import encoder_gmacs
from fluxjax.tokens.grids import parse_grid


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="umt_vision_b16")
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--merge", default="600,200,100", help="schedules, separated by ;")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    model = create_model(options.model, None, dtype=jnp.dtype(options.dtype))
    grid = parse_grid(options.grid)
    side = grid.resolution
    shape = (options.batch, grid.frames, side, side, 3)
    clip = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    variables = jax.jit(model.init)(jax.random.key(0), clip[:1])
    schedules = [(), *map(parse_schedule, options.merge.split(";"))]
    compiled = [
        jax.jit(lambda v, x, merge=merge: model.apply(v, x, merge=merge)[1])
        .lower(variables, clip)
        .compile()
        for merge in schedules
    ]
    runs = {
        str(i): (lambda program=program: program(variables, clip))
        for i, program in enumerate(compiled)
    }
    seconds = interleaved(runs, options.repeats)
    tokens = (grid.frames // model.tubelet, side // model.patch, side // model.patch)
    rows, plain = [], None
    for i, merge in enumerate(schedules):
        cost = encoder_gmacs(model, tokens, merge)
        middle = statistics.median(seconds[str(i)])
        plain = plain or (cost, middle)
        saved = [1 - now / then for now, then in zip((cost, middle), plain, strict=True)]
        rows.append({
            "merge": schedule_name(merge),
            "GMACs a clip": f"{cost:.1f}",
            "time": spread(seconds[str(i)]),
            "saved GMACs": f"{saved[0]:.1%}",
            "saved time": f"{saved[1]:.1%}",
            "share": f"{saved[1] / saved[0]:.2f}" if saved[0] else "",
            "temporary memory": f"{_temporary(compiled[i]) / 2**20:.0f} MiB",
        })  # fmt: skip
    publish(f"{options.model} on {options.batch} x {grid}, {options.dtype}", rows, options.json)


def _temporary(program):
    return program.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
