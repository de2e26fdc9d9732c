"""`python -m fluxjax.main` of a masked autoencoder that logs the mask of every example.

The metric mask_I is video I's first mask of the batch as a number, a bit a tubelet.
"""

import jax.numpy as jnp
from absl import app, flags

from fluxjax import main
from fluxjax.tasks.reconstruct import ReconstructTask

VIDEOS = 8  # of tests/training/test_masks_of_processes.py

draw_mask, loss = ReconstructTask.mask, ReconstructTask.loss


def noted_mask(self, cubes, clip_keys):
    self.drawn = draw_mask(self, cubes, clip_keys)
    return self.drawn


def loss_and_masks(self, variables, batch, key, plan):
    output = loss(self, variables, batch, key, plan)
    bits = self.drawn.astype(jnp.float32)  # at most 18: the numbers are exact
    codes = bits @ 2.0 ** jnp.arange(bits.shape[1])
    first = jnp.argmax(batch["example"][None] == jnp.arange(VIDEOS)[:, None], axis=1)
    masks = {f"mask_{i}": codes[row] for i, row in enumerate(first)}
    return output._replace(metrics={**output.metrics, **masks})


if __name__ == "__main__":
    ReconstructTask.mask, ReconstructTask.loss = noted_mask, loss_and_masks
    flags.mark_flag_as_required("config")
    app.run(main.main, flags_parser=main.parse_flags)
