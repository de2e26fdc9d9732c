"""VideoMAE's pre-training step here against plain PyTorch, same work, same weights.

    python -m benchmarks.videomae_step --torch-python ~/torch-env/bin/python

Loss and gradients of masked clips, without the optimizer: ViT-B, 16 x 224, 90 % hidden. The two
processes take turns, run by run; their losses are compared before anything is timed. --torch-python
is an interpreter that has torch and numpy; without it only our side runs. Beside the times stand
the multiply-accumulates of the closed form, see `model_macs`, and where the time goes: what a step
takes less without the blocks of encoder or decoder, and their share of the products.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxjax
from benchmarks.against_torch import Torch
from benchmarks.report import publish, spread
from fluxjax.models import create_model
from fluxjax.models.videomae_pretraining import VideoMaePretraining, token_indices
from fluxjax.options import OptionParser
from fluxjax.tasks.reconstruct_targets import pixel_targets
from fluxjax.tokens.grids import parse_grid
from fluxjax.tokens.masking import tube_mask
from fluxjax.training.compilation import compile_program


def model_macs(model: VideoMaePretraining, tokens: int, hidden: int) -> dict[str, float]:
    """Multiply-accumulates of one clip's matrix products in a forward pass, by part.

    A block of width C over n tokens has 4 + 2 * mlp_ratio products of n * C * C, and two of
    n * n * C. The encoder sees the visible tokens only.

    Args:
      model: its sizes.
      tokens: tubelets of a clip.
      hidden: of these.
    """

    def block(n: int, width: int, ratio: float) -> float:
        return (4 + 2 * ratio) * n * width**2 + 2 * n**2 * width

    visible, inner = tokens - hidden, model.decoder_width
    values = model.tubelet * model.patch**2 * 3
    ratio = model.decoder_mlp_ratio or model.mlp_ratio
    return {
        "embedding": visible * values * model.width,
        "encoder": model.depth * block(visible, model.width, model.mlp_ratio),
        "to decoder": visible * model.width * inner,
        "decoder": model.decoder_depth * block(tokens, inner, ratio),
        "head": hidden * inner * values,
    }


def train_macs(model: VideoMaePretraining, tokens: int, hidden: int) -> float:
    """Those of loss and gradients: three times the forward pass, but no gradient of pixels."""
    parts = model_macs(model, tokens, hidden)
    return 3 * sum(parts.values()) - parts["embedding"]


def loss_of(model, variables, video, mask, hidden):
    """Mean squared error of hidden tubelets."""
    cubes = jnp.take_along_axis(model.cubes(video).values, hidden[..., None], axis=1)
    slots = (mask.shape[1] - hidden.shape[1], hidden.shape[1])
    predicted = model.apply(variables, video, mask, slots=slots)
    return jnp.mean(jnp.square(predicted - pixel_targets(cubes)))


def write_for_torch(path, model, variables, video, mask, hidden) -> None:
    """The weights and inputs in torch's order, (channel, frame, row, column) inside a tubelet."""
    cubes = np.asarray(model.cubes(video).values, np.float32)
    targets = pixel_targets(jnp.take_along_axis(jnp.asarray(cubes), hidden[..., None], axis=1))
    pixels = cubes.reshape(*cubes.shape[:2], -1, 3)
    pixels = (pixels / 255 - np.float32(model.pixels.mean)) / np.float32(model.pixels.std)
    inputs = {
        "input/cubes": np.swapaxes(pixels, 2, 3).reshape(cubes.shape),
        "input/mask": np.asarray(mask),
        "input/targets": np.asarray(targets),
    }
    np.savez(path, **fluxjax.to_torch(model, variables), **inputs)


def sizes_of(model: VideoMaePretraining, tokens: int) -> dict[str, int]:
    """What `benchmarks.torch_videomae` needs to know."""
    return {
        "width": model.width, "depth": model.depth, "heads": model.num_heads,
        "decoder_width": model.decoder_width, "decoder_depth": model.decoder_depth,
        "decoder_heads": model.decoder_heads, "tokens": tokens,
        "values": model.tubelet * model.patch**2 * 3,
    }  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="videomae_b16_pretrain")
    parser.add_argument("--grid", default="16x224")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--torch-python", default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    grid = parse_grid(arguments.grid)
    side = grid.resolution
    model = create_model(arguments.model, 0)
    rows = side // model.patch
    model = model.clone(grid=(rows, rows), num_frames=grid.frames)
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (arguments.batch, grid.frames, side, side, 3), np.uint8)
    keys = jax.random.split(jax.random.key(0), arguments.batch)
    mask = tube_mask(model.cubes(video), keys, arguments.ratio)
    hidden, _ = token_indices(mask, int(mask[0].sum()))
    variables = jax.jit(model.init)(jax.random.key(0), video[:1], mask[:1])
    step = lambda model: compiled(model, variables, video, mask, hidden)  # noqa: E731
    whole, other = step(model), None
    if arguments.torch_python:
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            write_for_torch(file, model, variables, video, mask, hidden)
            file.flush()
            setup = {"sizes": sizes_of(model, mask.shape[1]), "arrays": file.name}
            other = Torch(arguments.torch_python, setup, "torch_videomae")
    row = measure(whole, other, arguments.repeats)
    parts = model_macs(model, mask.shape[1], hidden.shape[1])
    row |= block_shares(model, step, row["seconds"], arguments.repeats, parts)
    work = train_macs(model, mask.shape[1], hidden.shape[1]) * arguments.batch
    seconds = row.pop("seconds")
    row["closed form"] = f"{work / 1e9:.1f} GMAC"
    row["GFLOP/s"] = f"{2 * work / seconds / 1e9:.0f}"
    against = "" if other is None else f"; torch {json.dumps(other.about)}"
    title = f"{arguments.model}, {arguments.grid}, {hidden.shape[1]} of {mask.shape[1]} tokens "
    title += f"hidden, batch {arguments.batch}, float32, {arguments.repeats} runs{against}"
    publish(title, [row], arguments.json)


def compiled(model, variables, video, mask, hidden) -> Callable[[], Any]:
    """The step of a model as a compiled program; surplus parameters are left alone."""
    step = jax.jit(jax.value_and_grad(lambda v: loss_of(model, v, video, mask, hidden)))
    program = compile_program("pre-training step", step, variables)
    return lambda: program(variables)


def block_shares(model, step, seconds: float, repeats: int, parts: dict[str, float]) -> dict:
    """What encoder's and decoder's blocks take of a step's seconds, and of its products."""
    found = {}
    for part, field in (("encoder", "depth"), ("decoder", "decoder_depth")):
        less = step(model.clone(**{field: 0}))
        jax.block_until_ready(less())
        rest = statistics.median(seconds_of(less) for _ in range(repeats))
        share = parts[part] / sum(parts.values())
        found[f"{part} blocks"] = (
            f"{1 - rest / seconds:.0%} of the time, {share:.0%} of the products"
        )
    return found


def seconds_of(program: Callable[[], Any]) -> float:
    """Of one run."""
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start


def measure(ours, other: Torch | None, repeats: int) -> dict:
    """One row; refuses to time two different functions.

    Raises:
      RuntimeError: if the losses differ.
    """
    value = float(jax.block_until_ready(ours())[0])
    error = None
    if other is not None:
        expected = other.ask({"run": "train"})["result"]
        error = abs(value - expected) / abs(expected)
        if error > 1e-3:
            raise RuntimeError(f"the loss {value} is not torch's {expected}")
    here, there = [], []
    for _ in range(repeats):
        here.append(seconds_of(ours))
        if other is not None:
            there.append(other.ask({"run": "train"})["seconds"])
    row = {"work": "train", "fluxjax": spread(here), "seconds": statistics.median(here)}
    if other is None:
        return row
    other.close()
    ratios = [b / a for a, b in zip(here, there, strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return row | {
        "torch": spread(there),
        "torch / fluxjax": ratio,
        "relative difference": f"{error:.1e}",
    }


if __name__ == "__main__":
    main()
