"""Runs an export without fluxjax: python serve.py OUT BUDGET clips.npy [logits.npy]

Needs `pip install jax flatbuffers`; jax 0.8.2 or newer, which brings numpy. jax reads exported
programs with flatbuffers, but does not install it.
"""

import json
import pathlib
import sys

OLDEST_JAX = (0, 8, 2)  # older ones read the programs and refuse to call them

try:
    import flatbuffers  # noqa: F401
    import jax
    import jax.export
    import numpy as np
except ImportError as error:
    sys.exit(f"serve.py lacks {error.name}: pip install jax flatbuffers")
if jax.__version_info__ < OLDEST_JAX:
    sys.exit(f"serve.py needs jax 0.8.2 or newer, this is {jax.__version__}: pip install -U jax")


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
if ladder["calling_convention"] > jax.export.maximum_supported_calling_convention_version:
    sys.exit(f"{folder} was written by jax {ladder['jax']}, this is {jax.__version__}: update jax")
rungs = [rung for rung in ladder["rungs"] if rung["budget"] <= budget]  # largest first
if not rungs:
    sys.exit(f"no program keeps at most {budget} tokens; the smallest keeps "
             f"{ladder['rungs'][-1]['budget']}")  # fmt: skip
program = jax.export.deserialize((folder / rungs[0]["program"]).read_bytes())
logits = program.call(read_safetensors(folder / ladder["weights"]), clips)
labels = json.loads((folder / "labels.json").read_text())
for best in np.argmax(logits, axis=-1):
    print(labels[best] if labels else int(best))
if len(sys.argv) > 4:
    np.save(sys.argv[4], logits)
