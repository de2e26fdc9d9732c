"""What XLA does slower on a CPU than torch, alone: attention's products, gradients of convolutions.

    python -m benchmarks.slow_operations --torch-python ~/torch-env/bin/python

Nothing here is of fluxjax, so that a row can be reported upstream as it stands: the shapes are
those of FluxViT-S at 3,072 tokens, TSM-R50 and SlowFast-R50. The two libraries take turns, run by
run. --torch-python is an interpreter that has torch and numpy.
"""

import argparse
import contextlib
import functools
import statistics
import subprocess
import sys
import time

# Name -> kind, shape of the left or input, shape of the right or kernel.
OPERATIONS = {
    "product [512, 64] x [64, 3072], 6 heads": ("product", (6, 512, 64), (6, 64, 3072)),
    "product [512, 3072] x [3072, 64], 6 heads": ("product", (6, 512, 3072), (6, 3072, 64)),
    "product [3072, 384] x [384, 1536]": ("product", (1, 3072, 384), (1, 384, 1536)),
    "convolution 3x3, 64 to 64": ("convolution", (8, 56, 56, 64), (3, 3, 64, 64)),
    "convolution 3x3, 256 to 256": ("convolution", (8, 14, 14, 256), (3, 3, 256, 256)),
    "convolution 3x1, 1024 to 256": ("convolution", (1, 8, 196, 1024), (3, 1, 1024, 256)),
}


def flops(kind: str, left: tuple[int, ...], right: tuple[int, ...]) -> float:
    """FLOP of an operation forward; its gradients take twice as many."""
    if kind == "product":
        return 2.0 * left[0] * left[1] * left[2] * right[2]
    batch, height, width, _ = left
    kh, kw, inputs, outputs = right
    return 2.0 * batch * height * width * kh * kw * inputs * outputs


def operand(index: int, shape: tuple[int, ...]):
    """The left (0) or right (1) side of an operation, a float32 array of JAX."""
    import jax  # torch's interpreter need not have it

    return jax.random.normal(jax.random.key(index), shape)


def forward(kind: str):
    """The operation in JAX: [B, N, K] x [B, K, M], or [B, H, W, C] with a kernel [h, w, C, D]."""
    import jax

    if kind == "product":
        return jax.numpy.matmul
    names = ("NHWC", "HWIO", "NHWC")
    return functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1), padding="SAME", dimension_numbers=names,
    )  # fmt: skip


def jax_runs(kind, left, right):
    """Forward, and forward with both gradients: functions that take nothing."""
    import jax

    a, b, run = operand(0, left), operand(1, right), forward(kind)

    def both(a, b, g):
        out, back = jax.vjp(run, a, b)
        return out, back(g)

    g = jax.jit(run)(a, b)
    calls = functools.partial(jax.jit(run), a, b), functools.partial(jax.jit(both), a, b, g)
    return [lambda call=call: jax.block_until_ready(call()) for call in calls]


def torch_runs(kind, left, right):
    """As `jax_runs`; convolutions channels last."""
    import torch

    if kind == "product":
        a, b, forward = torch.randn(left), torch.randn(right), torch.matmul
    else:
        a = torch.randn(left).permute(0, 3, 1, 2)
        b = torch.randn(right).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        padding = (right[0] // 2, right[1] // 2)
        forward = functools.partial(torch.nn.functional.conv2d, padding=padding)
    a.requires_grad_(), b.requires_grad_()
    g = torch.ones_like(forward(a, b))

    def alone():
        with torch.no_grad():
            forward(a, b)

    return [alone, lambda: torch.autograd.grad(forward(a, b), (a, b), g)]


def serve(library: str) -> None:
    """Times what is asked for by lines "name, with gradients" on standard input; prints seconds."""
    made = {}
    for line in sys.stdin:
        name, index = line.rstrip("\n").split("\t")
        if name not in made:
            made[name] = {"jax": jax_runs, "torch": torch_runs}[library](*OPERATIONS[name])
            for run in made[name]:
                run()
        start = time.perf_counter()
        made[name][int(index)]()
        print(time.perf_counter() - start, flush=True)


def start(python: str, library: str) -> subprocess.Popen:
    """A process that `serve`s."""
    command = [python, __file__, "--serve", library]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def seconds(process: subprocess.Popen, name: str, index: int) -> float:
    """Of one run in a process that `serve`s.

    Raises:
      RuntimeError: if the process has ended; its own message is above.
    """
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{name}\t{index}\n")
        process.stdin.flush()
    if not (line := process.stdout.readline()):
        raise RuntimeError(
            f"{process.args[0]} has ended; does --torch-python have torch and numpy?"
        )
    return float(line)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--torch-python", help="interpreter that has torch and numpy")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each, in turns")
    parser.add_argument("--json", help="file for the table")
    parser.add_argument("--serve", choices=("jax", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    from benchmarks.report import publish

    libraries = {"jax": sys.executable}
    if arguments.torch_python:
        libraries["torch"] = arguments.torch_python
    try:
        rows = measured(libraries, arguments.repeats)
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    publish("Operations that are slower in XLA than in torch", rows, arguments.json)


def measured(libraries: dict[str, str], repeats: int) -> list[dict[str, str]]:
    """A row an operation, of libraries and their interpreters."""
    processes = {library: start(python, library) for library, python in libraries.items()}
    rows = []
    for name, (kind, left, right) in OPERATIONS.items():
        row = {"operation, float32": name}
        for index, part in enumerate(("forward", "with gradients")):
            runs = {library: [] for library in processes}
            for _ in range(repeats):
                for library, process in processes.items():
                    runs[library].append(seconds(process, name, index))
            work = flops(kind, left, right) * (1, 3)[index] / 1e9
            for library, times in runs.items():
                middle = statistics.median(times)
                row[f"{library}, {part}"] = f"{middle * 1e3:.1f} ms, {work / middle:.0f} GFLOP/s"
        rows.append(row)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return rows


if __name__ == "__main__":
    main()
