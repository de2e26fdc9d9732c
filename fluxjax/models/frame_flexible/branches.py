"""Branches of a frame flexible network: which one a clip takes, and what each has of its own.

A branch belongs to one of the frame numbers that the network is trained at; `branch` counts them
from the smallest. Every branch has its own norms and, where weights are altered, its own adapters;
all other weights are shared.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Names of modules that a branch has of its own end in its number; see `per_branch`.
BRANCHED = re.compile(r"(?P<name>\w*(?:bn|norm)\w*|adaconv)_(?P<branch>\d+)")


def check_frames(frames: Sequence[int]) -> None:
    """Raises ValueError unless the frame numbers ascend from at least 1."""
    if not frames or list(frames) != sorted(set(frames)) or frames[0] < 1:
        raise ValueError(f"frames={tuple(frames)} must be ascending numbers of at least one frame")


def nearest_branch(number: int, frames: Sequence[int]) -> int:
    """The branch whose frame number is nearest to `number`; of two as near, the larger one's."""
    return min(range(len(frames)), key=lambda i: (abs(frames[i] - number), -frames[i]))


def chosen_branch(branch: int | None, number: int, frames: Sequence[int]) -> int:
    """`branch`, or for None the nearest to a clip of `number` frames.

    Raises:
      ValueError: if there is no such branch.
    """
    if branch is None:
        return nearest_branch(number, frames)
    if not 0 <= branch < len(frames):
        raise ValueError(
            f"branch={branch} must lie between 0 and {len(frames) - 1}: the network has a branch "
            f"for each of frames={tuple(frames)}"
        )
    return branch


def per_branch(
    module: nn.Module,
    layer: Callable[..., nn.Module],
    name: str,
    x: jax.Array,
    branch: int,
    branches: int,
    *args: Any,
) -> jax.Array:
    """Applies the branch's own layer `<name>_<branch>`, in a compact method of `module`.

    While the parameters are made, those of all branches are.

    Args:
      module: whose submodule the layer becomes.
      layer: makes it from `name=`.
      name: of the layer, see `BRANCHED`.
      x: [.., C], what it is applied to.
      branch, branches: the branch, and how many there are.
      *args: further arguments of the layer's call.
    """
    made = range(branches) if module.is_initializing() else (branch,)
    return {i: layer(name=f"{name}_{i}")(x, *args) for i in made}[branch]


class Adapter(nn.Module):
    """Weight alteration: x + a * x for a vector a of channels, [.., C] -> [.., C].

    The released code has it as a depthwise convolution of one weight a channel. Its initial
    deviation is of that code too, sqrt(2 / C): the constructor draws all convolutions anew.

    Attributes:
      std: initial standard deviation; None: sqrt(2 / C).
      dtype: of the computation.
    """

    std: float | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C]."""
        width = x.shape[-1]
        init = nn.initializers.normal((2 / width) ** 0.5 if self.std is None else self.std)
        kernel = self.param("kernel", init, (width,), jnp.float32)
        return x * (1 + kernel).astype(x.dtype)
