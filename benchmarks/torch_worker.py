"""The torch half of `benchmarks.against_torch`: a process that times on request.

Reads one JSON object a line: first the set-up, then {"run": NAME}; answers each with one. Imports
torch and numpy only, so it runs in an environment of its own.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from benchmarks.torch_fluxvit import FluxViT

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Answers until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = FluxViT(**setup["sizes"])
    with np.load(setup["arrays"]) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    patches, label = state.pop("input/patches"), state.pop("input/label")
    model.load_state_dict(state)
    model.to(device)
    patches, label = patches.to(device), label.long().to(device)
    dtype = DTYPES[setup["dtype"]]
    forward = torch.compile(model) if setup["compile"] else model
    loss = torch.compile(model.loss) if setup["compile"] else model.loss
    autocast = torch.autocast(device, dtype, enabled=dtype != torch.float32)

    def run_forward():
        with torch.no_grad(), autocast:
            return forward(patches, setup["head"])

    def run_train():
        model.zero_grad(set_to_none=True)
        with autocast:
            value = loss(patches, label)
        value.backward()
        return value

    runs = {"forward": run_forward, "train": run_train}
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    reply({"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()})
    answer(runs, device)


def answer(runs: Mapping[str, Callable[[], torch.Tensor]], device: str) -> None:
    """Times the run that each line of standard input names, until it ends."""
    for line in sys.stdin:
        run = runs[json.loads(line)["run"]]
        start = time.perf_counter()
        result = run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        reply({"seconds": seconds, "result": result.detach().float().cpu().numpy().tolist()})


def reply(answer: dict) -> None:
    """Writes a line at once."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
