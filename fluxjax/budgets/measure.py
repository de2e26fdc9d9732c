"""Programs of a setting, their cost by XLA's count, and their times on this machine."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.classification import counts
from fluxjax.models.attention_choice import plain_attention
from fluxjax.serving.settings import Setting, forward
from fluxjax.tokens.tokens import Tokens
from fluxjax.training.flops import count_flops

WARM_UP = 2  # calls whose time does not count


class Times(NamedTuple):
    """Milliseconds of one call."""

    median: float
    low: float  # 10th percentile
    high: float  # 90th percentile


def trace_single(model: nn.Module, variables: Mapping[str, Any], setting: Setting):
    """(variables, clip [1, T, H, W, 3] uint8, key) -> logits, traced but not yet lowered.

    Raises:
      ValueError: if the model cannot run the setting.
    """
    frames, side = setting.grid
    clip = jax.ShapeDtypeStruct((1, frames, side, side, 3), jnp.uint8)
    function = jax.jit(lambda variables, clip, key: forward(model, variables, clip, setting, key))
    return function.trace(_shapes(variables), clip, jax.random.key(0))


def gmacs(model: nn.Module, variables: Mapping[str, Any], setting: Setting) -> float:
    """Giga multiply-accumulates of a clip, as `evaluation.compute.forward_gmacs`."""
    with plain_attention():
        return count_flops(trace_single(model, variables, setting).jaxpr) / 2e9


def lower_counts(
    model: nn.Module, variables: Mapping[str, Any], setting: Setting, batch: Mapping[str, Any]
):
    """(variables, batch, key) -> [4] float32, see `classification.counts`; not yet compiled.

    Args:
      model: the module.
      variables: of the model.
      setting: how to run it.
      batch: patches [V, views, tokens of the grid, D] uint8, or dense clips, video [V, views, T, S,
        S, 3]; label, weight, readable [V].
    """
    function = jax.jit(functools.partial(_counts, model, setting))
    return function.lower(_shapes(variables), _shapes(batch), jax.random.key(0))


def clips_of(batch: Mapping[str, Any]) -> Any:
    """The clips of a batch, packed or dense, [V, views, ..] uint8."""
    return batch["patches"] if "patches" in batch else batch["video"]


def _counts(model, setting: Setting, variables, batch: Mapping[str, jax.Array], key) -> jax.Array:
    clips = clips_of(batch)
    videos, views = clips.shape[:2]
    clips = clips.reshape(videos * views, *clips.shape[2:])
    if "patches" in batch:
        grid = setting.grid.shape(model.patch)
        tokens = Tokens.from_patches(clips, jnp.tile(jnp.int32(grid), (len(clips), 1)), grid)
        # All tokens of one static grid: the program is that of dense clips, as it will be served.
        clips = tokens.replace(padded=False)
    logits = forward(model, variables, clips, setting, key)
    return counts(logits.reshape(videos, views, -1), batch)


def interleaved_times(functions: Sequence[Callable[[], Any]], repeats: int) -> list[Times]:
    """Times of each function, called in turn A B C A B C ..

    In turn, so that a machine that slows down slows all of them down alike.
    """
    seconds = np.empty((repeats, len(functions)))
    for function in functions:
        for _ in range(WARM_UP):
            jax.block_until_ready(function())
    for row in seconds:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            row[i] = time.perf_counter() - start
    low, median, high = np.percentile(seconds * 1e3, (10, 50, 90), axis=0)
    return [Times(*map(float, row)) for row in zip(median, low, high, strict=True)]


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
