"""TSM, TEA, SlowFast and UniFormer here against plain PyTorch modules of the same weights and work.

    python -m benchmarks.frames_against_torch --grid 8x224 --torch-python ~/torch-env/bin/python

A row for each network's forward (statistics as stored) and train step (batch statistics, loss and
gradients, without the optimizer). The two processes take turns, run by run, and their logits and
losses are compared before anything is timed. --torch-python is an interpreter that has torch and
numpy; the default is this one. Networks are plain ones: a branch costs the same.
"""

import argparse
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fluxjax
from benchmarks.against_torch import Torch, timed_row
from benchmarks.report import publish
from fluxjax.models import create_model
from fluxjax.models.frame_flexible.slowfast_stages import slow_frames
from fluxjax.options import OptionParser
from fluxjax.tokens.grids import parse_grid
from fluxjax.training.compilation import compile_program

CLASSES = 174
TOLERANCE = 2e-3  # of the largest logit, or of the loss; batch statistics of few clips


def sizes_of(model) -> tuple[str, dict]:
    """Class of torch's side, and its arguments."""
    kind, sizes = type(model).__name__, {"layers": model.layers, "classes": model.num_classes}
    if kind in ("Tsm", "Tea"):
        own = {"kind": kind.lower(), "widths": model.widths, "stem": model.stem}
        return "FrameNetwork", sizes | own
    names = {"SlowFast": ("width", "alpha", "beta_inv"),
             "UniFormer": ("widths", "head_dim", "mlp_ratio")}[kind]  # fmt: skip
    sizes |= {name: getattr(model, name) for name in names}
    if kind == "SlowFast":
        sizes["slow"] = slow_frames(model.frames[0], model.alpha).tolist()
    return kind, sizes


def programs(model, variables, video, label) -> dict:
    """name -> compiled () -> array, of both measurements."""

    def forward(variables, video):
        return model.apply(variables, video)

    def loss(params, stats, video):
        logits, _ = model.apply(
            {"params": params, "batch_stats": stats}, video, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))

    work = {
        "forward": (forward, (variables, video)),
        "train": (
            jax.value_and_grad(loss), (variables["params"], variables["batch_stats"], video)
        ),
    }  # fmt: skip
    compiled = {
        name: compile_program(name, jax.jit(function), *inputs)
        for name, (function, inputs) in work.items()
    }
    return {name: lambda n=name: compiled[n](*work[n][1]) for name in work}


def measure(name: str, arguments: argparse.Namespace) -> tuple[list[dict[str, str]], dict]:
    """The rows of a network, and what torch says of itself."""
    frames, side = parse_grid(arguments.grid)
    given = {} if name.startswith("uniformer") else {"dropout": 0.0}
    model = create_model(name, CLASSES, frames=(frames,), **given)
    rng = np.random.default_rng(0)
    video = rng.standard_normal((arguments.batch, frames, side, side, 3), np.float32)
    label = rng.integers(0, CLASSES, arguments.batch, np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), video[:1])
    # The last norm of SlowFast's blocks starts at 0, which would leave most of it unread.
    variables["params"] = jax.tree.map_with_path(
        lambda path, x: jnp.full_like(x, 0.5) if path[-1].key == "scale" else x,
        variables["params"],
    )
    kind, sizes = sizes_of(model)
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        state = fluxjax.to_torch(model, variables)
        np.savez(file, **state, **{"input/video": video, "input/label": label})
        file.flush()
        setup = {"kind": kind, "sizes": sizes, "arrays": file.name}
        other = Torch(arguments.torch_python, setup, "torch_frames_worker")
    ours = programs(model, variables, jnp.asarray(video), label)
    rows = [
        {"network": name} | timed_row(work, ours[work], other, arguments.repeats, TOLERANCE)
        for work in arguments.only.split(",")
    ]
    other.close()
    return rows, other.about


def main() -> None:
    """Measures and prints."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tsm_r50,tea_r50,slowfast_r50,uniformer_s")
    parser.add_argument("--grid", default="8x224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--only", default="forward,train")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models.split(","):
        found, about = measure(name, arguments)
        rows += found
    title = (
        f"{arguments.grid}, batch {arguments.batch}, float32; torch {about['torch']} on "
        f"{about['device']}, {about['threads']} threads; {arguments.repeats} runs in turns"
    )
    publish(title, rows, arguments.json)


if __name__ == "__main__":
    main()
