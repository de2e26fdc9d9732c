"""AVION's contrastive step with each trick, and against plain PyTorch on the same weights.

    python -m benchmarks.video_text --batch 4 --torch-python ~/torch-env/bin/python

Loss and gradients of clips and captions, without the optimizer: ViT-B/16, 4 x 224, E = 256, the
loss over all pairs of the batch. `plain` uses no trick; each row below has one, or, as AVION
trains, those named. Rows take turns, run by run; the loss of `plain` is compared with torch's
before anything is timed. Memory is what XLA's program needs beside its arguments and results; of
torch, what its steps add to the process (on a GPU: to the device). --torch-python is an
interpreter that has torch and numpy; without it only our side runs.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import fluxjax
from benchmarks.against_torch import Torch
from benchmarks.report import interleaved, publish, spread
from fluxjax.models import create_model
from fluxjax.models.dense_clips import pixel_tokens
from fluxjax.options import OptionParser
from fluxjax.tasks.contrastive import contrastive_loss
from fluxjax.tasks.micro_batches import in_parts
from fluxjax.tokens.grids import parse_grid
from fluxjax.tokens.tokens import normalize_pixels
from fluxjax.training.compilation import compile_program

# Row -> (fields of the model, options of `loss_of`).
TRICKS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "remat per block": ({"remat": "block"}, {}),
    "loss in chunks of 1": ({}, {"chunk": 1}),
    "embedding in 2 parts": ({}, {"parts": 2}),
    "bfloat16": ({"dtype": jnp.bfloat16}, {}),
    "half of the patches dropped": ({"patch_dropout": 0.5}, {}),
    "as AVION: remat, chunks, bfloat16": (
        {"remat": "block", "dtype": jnp.bfloat16}, {"chunk": 1},
    ),
    "all": (
        {"remat": "block", "dtype": jnp.bfloat16, "patch_dropout": 0.5}, {"chunk": 1, "parts": 2},
    ),
}  # fmt: skip


def loss_of(
    model: nn.Module,
    variables: Any,
    batch: tuple[jax.Array, jax.Array],
    chunk: int | None = None,
    parts: int = 1,
) -> jax.Array:
    """The contrastive loss of clips and token ids; see `fluxjax.tasks.contrast`."""

    def encode(part, key):
        return model.apply(variables, *part, train=True, rngs={"dropout": key})[:2]

    key = jax.random.key(0)
    video, text = in_parts(encode, batch, key, parts) if parts > 1 else encode(batch, key)
    scale = jnp.exp(variables["params"]["logit_scale"])
    return contrastive_loss(video, text, scale, chunk)[0]


def write_for_torch(path, model: nn.Module, variables: Any, video, ids) -> None:
    """The weights and inputs in torch's order, (channel, row, column) inside a patch."""
    patches = pixel_tokens(video, model.patch).values
    values = np.asarray(normalize_pixels(patches, model.pixels), np.float32)
    frames = video.shape[1]
    pixels = np.swapaxes(values.reshape(len(video), frames, -1, model.patch**2, 3), 3, 4)
    inputs = {
        "input/patches": pixels.reshape(*pixels.shape[:3], -1),
        "input/ids": np.asarray(ids),
    }
    np.savez(path, **fluxjax.to_torch(model, variables), **inputs)


def sizes_of(model: nn.Module) -> dict[str, int]:
    """What `benchmarks.torch_video_text` needs to know."""
    return {
        "width": model.width, "depth": model.depth, "heads": model.num_heads,
        "patches": model.grid[0] * model.grid[1], "frames": model.num_frames,
        "values": 3 * model.patch**2, "embedding": model.embedding,
        "text_width": model.text_width, "text_depth": model.text_depth,
        "text_heads": model.text_heads, "context": model.context_length,
        "vocabulary": model.vocab_size,
    }  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="avion_b16")
    parser.add_argument("--grid", default="4x224")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rows", default=";".join(TRICKS), help="semicolons between their names")
    parser.add_argument("--torch-python", default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    grid = parse_grid(arguments.grid)
    side = grid.resolution
    model = create_model(arguments.model, None)
    rows = side // model.patch
    model = model.clone(grid=(rows, rows), num_frames=grid.frames)
    rng = np.random.default_rng(0)
    shape = (arguments.batch, grid.frames, side, side, 3)
    video = jnp.asarray(rng.integers(0, 256, shape, np.uint8))
    ids = rng.integers(1, model.vocab_size, (arguments.batch, model.context_length))
    ids = jnp.asarray(ids, jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), video[:1], ids[:1])
    programs = {
        name: _program(name, model, variables, (video, ids), *TRICKS[name])
        for name in arguments.rows.split(";")
    }
    other = None
    if arguments.torch_python:
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            write_for_torch(file, model, variables, video, ids)
            file.flush()
            setup = {"sizes": sizes_of(model), "arrays": file.name}
            other = Torch(arguments.torch_python, setup, "torch_video_text")
    publish(
        f"{arguments.model}, {arguments.grid}, batch {arguments.batch}, loss and gradients, "
        f"{arguments.repeats} runs in turns" + ("" if other is None else f"; torch {other.about}"),
        measure(programs, other, arguments),
        arguments.json,
    )


def _program(name: str, model: nn.Module, variables: Any, batch, fields, options) -> Callable:
    changed = model.clone(**fields)
    step = jax.jit(jax.value_and_grad(lambda v, batch: loss_of(changed, v, batch, **options)))
    compiled = compile_program(name, step, variables, batch)

    def run():
        return compiled(variables, batch)

    run.bytes = compiled.memory_analysis().temp_size_in_bytes
    return run


def measure(
    programs: Mapping[str, Callable], other: Torch | None, arguments: argparse.Namespace
) -> list[dict[str, str]]:
    """A row for each of our programs and one for torch; refuses to time another function.

    Raises:
      RuntimeError: if the losses differ.
    """
    runs, asked = dict(programs), []
    if other is not None:
        value = float(programs["plain"]()[0])
        expected = other.ask({"run": "train"})["result"]
        if abs(value - expected) > 1e-3 * abs(expected):
            raise RuntimeError(f"the loss {value} is not torch's {expected}")
        runs["plain PyTorch"] = lambda: asked.append(other.ask({"run": "train"}))
    seconds = interleaved(runs, arguments.repeats)
    memory = {name: program.bytes for name, program in programs.items()}
    if other is not None:
        seconds["plain PyTorch"] = [answer["seconds"] for answer in asked[1:]]
        memory["plain PyTorch"] = asked[-1]["bytes"]
        other.close()
    base = next(iter(seconds))
    return [
        {
            "step": name,
            "time": spread(times),
            "clips/s": f"{arguments.batch / statistics.median(times):.2f}",
            f"time / {base}": _ratio(times, seconds[base]),
            "memory": f"{memory[name] / 2**20:.0f} MiB",
            f"memory / {base}": f"{memory[name] / memory[base]:.2f}",
        }
        for name, times in seconds.items()
    ]


def _ratio(times: list[float], base: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(times, base, strict=True)):.2f}"


if __name__ == "__main__":
    main()
