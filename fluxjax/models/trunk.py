"""A stack of equal blocks, called one after the other or compiled as one.

TPU compilers take long for every shape of operation that they have not seen, and twice as long for
odd numbers of tokens; so on TPUs blocks are scanned, over whole tiles of tokens.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.attention_choice import place_of_tracing

_TILE = 16  # tokens: rows of a tile of bfloat16 on TPUs


def _whole_tiles(x: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """Tokens [B, N, C] and valid [B, N] or None; on TPUs with padding to a multiple of 16."""
    missing = -x.shape[1] % _TILE if place_of_tracing().platform == "tpu" else 0
    if not missing:
        return x, valid
    valid = jnp.ones(x.shape[:2], bool) if valid is None else valid
    padding = ((0, 0), (0, missing))
    return jnp.pad(x, (*padding, (0, 0))), jnp.pad(valid, padding)


def scans(model: nn.Module) -> bool:
    """Whether a model's blocks are scanned: as its `scan_blocks` says; None: on TPUs.

    Recipes compile faster with it on CPUs, too, but drop paths draw otherwise in a scan, and runs
    that were stored by earlier versions shall go on bit for bit.
    """
    if model.is_initializing():  # blocks make their parameters by themselves
        return False
    return place_of_tracing().platform == "tpu" if model.scan_blocks is None else model.scan_blocks


def run_blocks(
    model: Any,
    x: jax.Array,
    valid: jax.Array | None,
    train: bool,
    layers: Sequence[int] = (),
) -> tuple[jax.Array, jax.Array | None, list[jax.Array]]:
    """All blocks of a model.

    Scanned ones give what they give one after the other, but for the draws of drop paths.
    Parameters are stacked here, inside the program: checkpoints, optimizers and converters know
    blocks by their names.

    Args:
      model: being applied, with `blocks` that are equal but for their drop path, and `scan_blocks`.
      x: [B, N, C].
      valid: [B, N] bool, a prefix, or None.
      train: drop paths are active.
      layers: blocks whose outputs are wanted too, ascending.

    Returns:
      The last block's output [B, N, C], with padding on TPUs; what of it is valid; and the outputs
      [B, N, C] of `layers`.
    """
    n = x.shape[1]
    x, valid = _whole_tiles(x, valid)
    if scans(model):
        x, outputs = _scanned(model, x, valid, train, layers)
    else:
        outputs = []
        for i, block in enumerate(model.blocks):
            x = block(x, valid, train)
            if i in layers:
                outputs.append(x)
    return x, valid, [output[:, :n] for output in outputs]


def _scanned(model, x, valid, train, layers):
    blocks = model.blocks
    rates = [block.drop_path for block in blocks]
    drops = train and any(rates)
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(block.variables["params"] for block in blocks)
    )
    keys = jax.random.split(model.make_rng("dropout"), len(blocks)) if drops else None
    # A block that is not wanted writes beyond the end, which is dropped.
    places = [layers.index(i) if i in layers else len(layers) for i in range(len(blocks))]

    def run(carry, of_block):
        x, outputs = carry
        parameters, rate, key, place = of_block
        block = blocks[0].clone(parent=None, name=None, drop_path=rate if drops else 0.0)
        rngs = {"dropout": key} if drops else {}
        x = block.apply({"params": parameters}, x, valid, train, rngs=rngs)
        return (x, outputs.at[place].set(x, mode="drop") if layers else outputs), None

    outputs = jnp.zeros((len(layers), *x.shape), x.dtype)
    each = (stacked, jnp.asarray(rates), keys, jnp.asarray(places))
    return jax.lax.scan(run, (x, outputs), each)[0]
