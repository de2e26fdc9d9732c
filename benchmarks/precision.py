"""How far logits in bfloat16, with a fused attention, are from float32 on the same weights.

    python -m benchmarks.precision --model fluxvit_s14 --attention cudnn

With all tokens, so that only rounding differs, and at the smallest budget, where rounding also
moves the choice of the last tokens. Random weights; layer scales of 1, so that every block counts.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.against_torch import moving_patches
from benchmarks.report import publish
from fluxjax.models import create_model
from fluxjax.tokens.grids import parse_grid
from fluxjax.tokens.tokens import Tokens


def logits(model, variables, patches: np.ndarray, grid, budget: int | None) -> np.ndarray:
    """[B, K] in float64."""
    shape = np.tile(np.int32(grid.shape()), (len(patches), 1))

    def forward(variables, patches):
        tokens = Tokens.from_patches(patches, shape, grid.shape()).replace(padded=False)
        return model.apply(variables, tokens, budget)

    return np.asarray(jax.jit(forward)(variables, patches), np.float64)


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fluxvit_s14")
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--budgets", default="3072,2048,1024")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--attention", default="auto", help="of the bfloat16 side")
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    grid = parse_grid(arguments.grid)
    budgets = tuple(int(budget) for budget in arguments.budgets.split(","))
    sizes = {"budgets": budgets, "grid": grid.shape(), "layer_scale": 1.0}
    exact = create_model(arguments.model, 400, **sizes)
    fast = exact.clone(dtype=jnp.bfloat16, attention=arguments.attention)
    variables = jax.jit(exact.init)(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3)))
    patches = moving_patches(np.random.default_rng(0), arguments.batch, grid.tokens())
    rows = []
    for budget in (None, budgets[-1]):
        # On accelerators "float32" products are rounded by default; here they are the yardstick.
        with jax.default_matmul_precision("highest"):
            expected = logits(exact, variables, patches, grid, budget)
        found = logits(fast, variables, patches, grid, budget)
        error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        rows.append(
            {
                "tokens": budget or grid.tokens(),
                "relative error of the logits, median": f"{np.median(error):.1e}",
                "largest": f"{error.max():.1e}",
                "same first class": f"{(found.argmax(1) == expected.argmax(1)).mean():.0%}",
            }
        )
    publish(
        f"{arguments.model}, {arguments.grid}, batch {arguments.batch}: bfloat16 with "
        f"{arguments.attention} attention against float32",
        rows,
        arguments.json,
    )


if __name__ == "__main__":
    main()
