"""Runs an export with jax and numpy alone: python serve.py OUT BUDGET clips.npy [logits.npy]"""

import json
import pathlib
import sys

import jax
import numpy as np


def read_safetensors(path):
    """Arrays by name."""
    data = np.memmap(path, np.uint8, mode="r")
    length = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8 : 8 + length]))
    types = {"F32": np.dtype("<f4"), "BF16": jax.numpy.bfloat16.dtype, "F16": np.dtype("<f2")}
    arrays = {}
    for name, entry in header.items():
        raw = data[8 + length :][slice(*entry["data_offsets"])]
        arrays[name] = raw.view(types[entry["dtype"]]).reshape(entry["shape"])
    return arrays


folder, budget, clips = pathlib.Path(sys.argv[1]), int(sys.argv[2]), np.load(sys.argv[3])
ladder = json.loads((folder / "ladder.json").read_text())
rung = next(rung for rung in ladder["rungs"] if rung["budget"] <= budget)  # largest first
program = jax.export.deserialize((folder / rung["program"]).read_bytes())
logits = program.call(read_safetensors(folder / ladder["weights"]), clips)
labels = json.loads((folder / "labels.json").read_text())
for best in np.argmax(logits, axis=-1):
    print(labels[best] if labels else int(best))
if len(sys.argv) > 4:
    np.save(sys.argv[4], logits)
