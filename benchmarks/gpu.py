"""All measurements of a GPU in one command: train step with MFU, against torch, precision.

    python -m benchmarks.gpu --torch-python ~/torch-env/bin/python

S and B, bfloat16, cuDNN attention; torch with scaled_dot_product_attention and torch.compile on the
same card in turns. Needs jax with CUDA and an interpreter with torch (may be this one); no
TensorFlow, no videos. Each part is a process of its own, so that one that runs out of memory leaves
the others' results: the exit status is then 1.
"""

import os
import pathlib
import subprocess
import sys

from fluxjax.options import OptionParser


def main() -> None:
    """Runs the parts one after the other."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["fluxvit_s14", "fluxvit_b14"])
    parser.add_argument("--grid", default="12x224")
    parser.add_argument("--budgets", default="3072,2048,1024")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--attention", default="cudnn")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--torch-eager", action="store_true", help="without torch.compile")
    parser.add_argument("--output", default="runs/benchmarks", help="folder of the JSON files")
    options = parser.parse_args()
    # Asked in another process: this one would hold the GPU's memory.
    look = (sys.executable, "-c", "import jax; jax.devices('gpu')")
    if options.attention == "cudnn" and subprocess.run(look, capture_output=True).returncode:
        sys.exit('error: JAX finds no GPU here; for one, it needs pip install "fluxjax[cuda]"')
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    common = (f"--grid={options.grid}", f"--budgets={options.budgets}",
              f"--attention={options.attention}")  # fmt: skip
    speed = (f"--batch={options.batch}", f"--dtype={options.dtype}", f"--repeats={options.repeats}")
    torch = (f"--torch-python={options.torch_python}",
             f"--forward={options.budgets.split(',')[-1]}",
             *(() if options.torch_eager else ("--torch-compile",)))  # fmt: skip
    failed = []
    for model in options.model:
        for part, arguments in (
            ("train_step", speed),
            ("against_torch", (*speed, *torch)),
            ("precision", ()),
        ):
            name = f"{part}_{model}"
            command = (sys.executable, "-m", f"benchmarks.{part}", f"--model={model}", *common,
                       *arguments, f"--json={output / name}.json")  # fmt: skip
            # jax would take most of the memory at its start; torch needs a part of it.
            share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"} if part == "against_torch" else {}
            if subprocess.run(command, env={**os.environ, **share}).returncode:
                failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the messages are above")


if __name__ == "__main__":
    main()
