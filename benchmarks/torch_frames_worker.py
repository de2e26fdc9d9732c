"""The torch half of `benchmarks.frames_against_torch`: a process that times on request.

Reads one JSON object a line: first the set-up, then {"run": NAME}; answers each with one. Imports
torch and numpy only, so it runs in an environment of its own.
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.torch_frames_2d import FrameNetwork
from benchmarks.torch_frames_3d import SlowFast, UniFormer
from benchmarks.torch_worker import answer, reply

KINDS = {"FrameNetwork": FrameNetwork, "SlowFast": SlowFast, "UniFormer": UniFormer}


def main() -> None:
    """Answers until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = KINDS[setup["kind"]](**setup["sizes"])
    with np.load(setup["arrays"]) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    video, label = state.pop("input/video"), state.pop("input/label")
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or not all(name.endswith("num_batches_tracked") for name in missing):
        raise RuntimeError(f"names differ: missing {missing}, unexpected {unexpected}")
    model.to(device)
    video, label = video.to(device), label.long().to(device)

    def run_forward():
        model.eval()
        with torch.no_grad():
            return model(video)

    def run_train():
        model.train()
        model.zero_grad(set_to_none=True)
        value = F.cross_entropy(model(video), label)
        value.backward()
        return value

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    reply({"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()})
    answer({"forward": run_forward, "train": run_train}, device)


if __name__ == "__main__":
    main()
