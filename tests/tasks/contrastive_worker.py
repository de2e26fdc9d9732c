"""One of two processes that compute the contrastive loss of a batch which both hold a half of.

    python -m tests.tasks.contrastive_worker localhost:PORT PROCESS

prints the loss and the gradient's norms as JSON, with and without chunks.
"""

import functools
import json
import sys

import jax
import numpy as np

from fluxjax.training import mesh as meshes
from tests.tasks.test_contrastive import PARAMS, TEXT, VIDEO, loss


def main(address, process):
    jax.distributed.initialize(address, num_processes=2, process_id=process)
    mesh = meshes.make_mesh({"data": 2, "fsdp": 2})
    half = slice(process * len(VIDEO) // 2, (process + 1) * len(VIDEO) // 2)
    found = {}
    with meshes.activations_on(mesh):
        batch = meshes.put_batch({"video": VIDEO[half], "text": TEXT[half]}, mesh)
        params = jax.device_put(PARAMS, meshes.replicated(mesh))
        for chunk in (None, 3):
            gradient = jax.jit(
                jax.value_and_grad(functools.partial(loss, chunk=chunk)),
                out_shardings=meshes.replicated(mesh),
            )
            value, (weights, scale) = gradient(params, batch["video"], batch["text"])
            found[str(chunk)] = [float(value), np.asarray(weights).tolist(), float(scale)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
