"""FluxViT here against a plain PyTorch module on the same work and the same weights.

    python -m benchmarks.against_torch --model fluxvit_s14 --grid 12x224 \\
        --budgets 3072,2048,1024 --torch-python ~/torch-env/bin/python

Forward is one budget (`--forward`) with embedding, selection and positions; train is loss and
gradients of Flux-Multi without the optimizer. The two processes take turns, run by run, and their
logits and losses are compared before anything is timed. --torch-python is an interpreter that has
torch and numpy; the default is this one.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxjax
from benchmarks.report import publish, spread
from fluxjax.augment.mixing import smooth_one_hot
from fluxjax.models import create_model
from fluxjax.options import OptionParser
from fluxjax.tasks.losses import flux_multi_terms
from fluxjax.tokens.grids import parse_grid
from fluxjax.tokens.tokens import Tokens
from fluxjax.training.compilation import compile_program


class Torch:
    """The other process."""

    def __init__(self, python: str, setup: dict, worker: str = "torch_worker"):
        """Starts it: the module of that name here."""
        command = [python, "-m", f"benchmarks.{worker}"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.about = self.ask(setup)

    def ask(self, question: dict) -> dict:
        """One line there, one back.

        Raises:
          RuntimeError: if the process has ended; its own message is above.
        """
        with contextlib.suppress(BrokenPipeError):  # then nothing is read below
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the torch process has ended; does --torch-python have torch?")
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait()


def programs(model, variables, patches, label, grid, head: int):
    """name -> compiled () -> array, of both measurements."""
    budgets = model.budgets

    def tokens(values):
        shape = np.tile(np.int32(grid.shape()), (len(values), 1))
        return Tokens.from_patches(values, shape, grid.shape()).replace(padded=False)

    def forward(variables, values):
        return model.apply(variables, tokens(values), budgets[head], head)

    def loss(variables, values):
        outputs = model.apply(variables, tokens(values), train=True, method="forward_budgets")
        targets = smooth_one_hot(label, model.num_classes, 0.0)
        terms = flux_multi_terms(outputs, targets, budgets)
        return sum(value * weight for value, weight in terms.values())

    result = {}
    for name, function in (("forward", forward), ("train", jax.value_and_grad(loss))):
        program = compile_program(name, jax.jit(function), variables, patches)
        result[name] = lambda program=program: program(variables, patches)
    return result


def moving_patches(rng: np.random.Generator, batch: int, tokens: int) -> np.ndarray:
    """Patches [batch, tokens, 588] whose scores of change lie well apart.

    Scores of equally noisy patches are so close that rounding alone decides which token is the last
    one kept, and the two sides would then work on different tokens.
    """
    contrast = rng.uniform(0, 1, (batch, tokens, 1)).astype(np.float32)
    still = rng.standard_normal((588,), np.float32)
    return still + contrast * rng.standard_normal((batch, tokens, 588), np.float32)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="fluxvit_s14")
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--budgets", default="3072,2048,1024")
    parser.add_argument("--forward", type=int, default=1024, help="one of the budgets")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--only", default="forward,train")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    grid = parse_grid(arguments.grid)
    tokens = grid.tokens()
    budgets = tuple(min(int(b), tokens) for b in arguments.budgets.split(","))
    model = create_model(
        arguments.model, 400, budgets=budgets, grid=grid.shape(), layer_scale=1.0,
        dtype=jnp.dtype(arguments.dtype), attention=arguments.attention,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    patches = moving_patches(rng, arguments.batch, tokens)
    label = rng.integers(0, 400, arguments.batch, np.int32)
    example = jnp.zeros((1, 2, 28, 28, 3))
    variables = jax.jit(model.init)(jax.random.key(0), example)
    head = budgets.index(min(arguments.forward, tokens))
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        state = fluxjax.to_torch(model, variables)
        np.savez(file, **state, **{"input/patches": patches, "input/label": label})
        file.flush()
        sizes = {
            "width": model.width, "depth": model.depth, "heads": model.num_heads,
            "pooled": model.pooled, "pool_heads": model.pool_heads, "classes": 400,
            "grid": grid.shape(), "budgets": budgets,
        }  # fmt: skip
        setup = {"sizes": sizes, "arrays": file.name, "head": head, "dtype": arguments.dtype,
                 "compile": arguments.torch_compile}  # fmt: skip
        other = Torch(arguments.torch_python, setup)
    ours = programs(model, variables, jnp.asarray(patches), label, grid, head)
    rows = [compare(name, ours[name], other, arguments) for name in arguments.only.split(",")]
    other.close()
    title = (
        f"{arguments.model}, {arguments.grid} ({tokens} tokens), budgets {budgets}, forward at "
        f"{budgets[head]}, batch {arguments.batch}, {arguments.dtype}; torch "
        f"{other.about['torch']} on {other.about['device']}, {other.about['threads']} threads, "
        f"compile={arguments.torch_compile}; {arguments.repeats} runs in turns"
    )
    publish(title, rows, arguments.json)


def compare(name: str, ours, other: Torch, arguments: argparse.Namespace) -> dict[str, str]:
    """One row; refuses to time two different functions."""
    # bfloat16 also moves the choice of tokens.
    return timed_row(
        name, ours, other, arguments.repeats, 1e-3 if arguments.dtype == "float32" else 0.1
    )


def timed_row(
    name: str, ours: Callable[[], Any], other: Torch, repeats: int, tolerance: float
) -> dict[str, str]:
    """One row: times in turns, once the results are the same.

    Raises:
      RuntimeError: if they are not.
    """
    result = jax.block_until_ready(ours())
    value = np.asarray(result[0] if name == "train" else result, np.float64)
    expected = np.asarray(other.ask({"run": name})["result"], np.float64)
    error = np.abs(value - expected).max() / np.abs(expected).max()
    if error > tolerance:
        raise RuntimeError(f"{name} differs from torch's by {error:.2e} relative")
    here, there = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(ours())
        here.append(time.perf_counter() - start)
        there.append(other.ask({"run": name})["seconds"])
    ratios = [b / a for a, b in zip(here, there, strict=True)]
    return {
        "work": name,
        "fluxjax": spread(here),
        "torch": spread(there),
        "torch / fluxjax": f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f})",
        "relative difference": f"{error:.1e}",
    }


if __name__ == "__main__":
    main()
