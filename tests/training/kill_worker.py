"""Trains a toy, with a state large enough that saving takes a while, and prints where it is."""

import sys

import jax.numpy as jnp

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.training.lock import locked
from tests.training import toy

if __name__ == "__main__":
    toy.PARAMS = {"kernel": jnp.zeros((1 << 10, 1 << 10)), "bias": jnp.zeros(7)}
    trainer = toy.ToyTrainer(total_steps=int(sys.argv[2]), every=2)
    print("ready", flush=True)
    with locked(sys.argv[1]), Checkpoints(sys.argv[1], keep=2) as checkpoints:
        state = toy.train(
            trainer, checkpoints, before=lambda step: print(f"batch {step}", flush=True)
        )
    print("done", flush=True)
