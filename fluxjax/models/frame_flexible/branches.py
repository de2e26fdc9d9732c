"""Branches of a frame flexible network: which one a clip takes, and what each has of its own.

A branch belongs to one of the frame numbers that the network is trained at. It has its own norms
and, where weights are altered, its own adapters; all other weights are shared. Inside a network
branches are counted from the smallest frame number, and their modules' names end in that count.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.frame_flexible.norms import BatchNorm
from fluxjax.models.layers import LayerNorm

# Names of modules that a branch has of its own; see `per_branch`.
BRANCHED = re.compile(r"(?P<name>\w*(?:bn|norm)\w*|adaconv)_(?P<branch>\d+)")


def check_frames(frames: Sequence[int]) -> None:
    """Raises ValueError unless the frame numbers ascend from at least 1."""
    if not frames or list(frames) != sorted(set(frames)) or frames[0] < 1:
        raise ValueError(
            f"frames={tuple(frames)} must be ascending frame numbers from 1 on, a branch each; one "
            "for a plain network"
        )


def nearest_branch(number: int, frames: Sequence[int]) -> int:
    """Index of the frame number that is nearest to `number`; of two as near, of the larger one."""
    return min(range(len(frames)), key=lambda i: (abs(frames[i] - number), -frames[i]))


def branch_index(branch: int | None, number: int, frames: Sequence[int]) -> int:
    """Index of the branch that a clip takes.

    Args:
      branch: frame number whose branch is wanted; None: the nearest.
      number: frames of the clip.
      frames: frame number of each branch.

    Raises:
      ValueError: if there is no such branch.
    """
    if branch is None:
        return nearest_branch(number, frames)
    if branch not in frames:
        raise ValueError(
            f"branch={branch} is none of the network's frames={tuple(frames)}; pass one of them, "
            "or None for the nearest to the clip's"
        )
    return list(frames).index(branch)


def per_branch(
    module: nn.Module,
    layer: Callable[..., nn.Module],
    name: str,
    x: jax.Array,
    branch: int,
    *args: Any,
) -> jax.Array:
    """Applies the branch's own layer `<name>_<branch>`, in a compact method of `module`.

    While the parameters are made, those of all `module.branches` are.

    Args:
      module: whose submodule the layer becomes.
      layer: makes it from `name=`.
      name: of the layer, see `BRANCHED`.
      x: [.., C], what it is applied to.
      branch: index of the branch.
      *args: further arguments of the layer's call.
    """
    made = range(module.branches) if module.is_initializing() else (branch,)
    return {i: layer(name=f"{name}_{i}")(x, *args) for i in made}[branch]


class BranchedLayers:
    """Layers of a branch's own, for modules with `branches`, `statistics_groups` and `dtype`."""

    def batch_norm(
        self, name: str, x: jax.Array, branch: int, train: bool, zero_scale: bool = False
    ) -> jax.Array:
        """[.., C] -> [.., C], see `BatchNorm`."""

        def layer(name):
            return BatchNorm(zero_scale, self.statistics_groups, self.dtype, name=name)

        return per_branch(self, layer, name, x, branch, train)

    def layer_norm(self, name: str, x: jax.Array, branch: int, epsilon: float) -> jax.Array:
        """[.., C] -> [.., C]."""

        def layer(name):
            return LayerNorm(epsilon=epsilon, dtype=self.dtype, name=name)

        return per_branch(self, layer, name, x, branch)

    def altered(self, x: jax.Array, branch: int, std: float | None = None) -> jax.Array:
        """[.., C] as the next convolution's altered weights see it; `std` as of `Adapter`."""
        if not self.adapters:
            return x
        return per_branch(self, lambda name: Adapter(std, name=name), "adaconv", x, branch)


class Branched(BranchedLayers, nn.Module):
    """A part of a network that has layers for each branch.

    Attributes:
      branches: how many there are.
      statistics_groups: of batch norms in training, see `BatchNorm`.
      adapters: alter the first convolution's weights for each branch.
      dtype: of the computation.
    """

    branches: int = 1
    statistics_groups: int = 1
    adapters: bool = False
    dtype: Any = jnp.float32


class Adapter(nn.Module):
    """Weight alteration: x + a * x for a vector a of channels, [.., C] -> [.., C].

    The released code has it as a depthwise convolution of one weight a channel. Its initial
    deviation is of that code too, sqrt(2 / C): the constructor draws all convolutions anew.

    Attributes:
      std: initial standard deviation; None: sqrt(2 / C).
    """

    std: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[.., C] -> [.., C]."""
        width = x.shape[-1]
        init = nn.initializers.normal((2 / width) ** 0.5 if self.std is None else self.std)
        kernel = self.param("kernel", init, (width,), jnp.float32)
        return x * (1 + kernel).astype(x.dtype)
