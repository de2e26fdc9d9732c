"""Training-free token merging: saliency from attention, saliency-aware bipartite merging.

Source: "vid-TLDR: Training Free Token merging for Light-weight Video Transformer" (arXiv
2403.13347, section 4) and the official repository mlvlab/vid-TLDR, utils/vid_TLDR.py.
After the attention of a block, tokens at even places (set A) are matched to their most similar
token at an odd place (set B); the most similar pairs merge, each source weighted by its saliency,
so that background dissolves instead of blurring the foreground. Shapes are static: how many slots
go is known while tracing, also where clips of a batch have different numbers of tokens.
"""

import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

# Scores closer together than this are equal up to float32 round-off of an entropy.
_FLAT = 1e-6


@flax.struct.dataclass
class Merged:
    """Tokens after a merge.

    Attributes:
      values: [B, M, C], tokens of A that stayed in their order, then all of B; padding last.
      mass: [B, M] float32, how much has flowed into each token; 1 for one that never merged.
      valid: [B, M] bool, a prefix.
      assignment: [B, N] int32, the slot of `values` that each input token is now part of; -1 for
        padding.
    """

    values: jax.Array
    mass: jax.Array
    valid: jax.Array
    assignment: jax.Array


def saliency(
    weights: jax.Array, valid: jax.Array | None = None, measure: str = "entropy"
) -> jax.Array:
    """How much each token stands out, from how sharply it attends (vid-TLDR, equation 5 and 6).

    The official code gives NaN for a probability that underflows to 0 and for clips whose tokens
    all attend alike. Here 0 ln 0 = 0, and where nothing stands out every token counts fully.

    Args:
      weights: [B, H, N, N] softmaxed attention, queries before keys, without the mass term.
      valid: [B, N] bool, None for all. Padding has no say in the normalisation and gets 0.
      measure: "entropy" (sharp attention is salient) or "gini" (1 - sum of squares, as FluxViT's
        copy of the code offers; diffuse attention is salient, the opposite order).

    Returns:
      [B, N] float32 in [0, 1]; below the mean, the background, exactly 0.

    Raises:
      ValueError: on an unknown measure.
    """
    mean = jnp.mean(weights.astype(jnp.float32), axis=1)
    if measure == "entropy":
        score = jnp.sum(xlogy(mean, mean), axis=-1)
    elif measure == "gini":
        score = 1.0 - jnp.sum(jnp.square(mean), axis=-1)
    else:
        raise ValueError(f"unknown saliency measure {measure!r}; choose 'entropy' or 'gini'")
    valid = jnp.ones(score.shape, bool) if valid is None else valid
    low = jnp.min(score, axis=1, keepdims=True, where=valid, initial=jnp.inf)
    high = jnp.max(score, axis=1, keepdims=True, where=valid, initial=-jnp.inf)
    flat = high - low < _FLAT
    score = (score - low) / jnp.where(flat, 1.0, high - low)
    average = jnp.sum(score, axis=1, keepdims=True, where=valid)
    average = average / jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
    above = jnp.maximum(score - average, 0.0) / jnp.where(flat, 1.0, 1.0 - average)
    return jnp.where(valid, jnp.where(flat, 1.0, above), 0.0)


def merge_count(tokens: int, r: float, protect_first: bool = False) -> int:
    """Tokens that one merge removes from `tokens`: at most half of them.

    Args:
      tokens: number of tokens.
      r: number to merge, or below 1 their share (rounded down).
      protect_first: the first token (cls) never merges.

    Raises:
      ValueError: if r is negative or not finite.
    """
    if not (math.isfinite(r) and r >= 0):
        raise ValueError(f"r must be a number of tokens or a share below 1, got {r}")
    # The protected token is one of A: it counts where A is not the larger set anyway.
    mergeable = (tokens - protect_first) // 2
    return max(min(int(tokens * r) if r < 1 else int(r), mergeable), 0)


def check_schedule(
    schedule: Sequence[float], depth: int, tokens: int | None = None
) -> tuple[float, ...]:
    """A merge schedule, r for each of the first blocks, filled with zeros to `depth` blocks.

    Args:
      schedule: the entries.
      depth: number of blocks.
      tokens: that enter the first block, cls not counted; None where that is not known.

    Raises:
      ValueError: if it is a lone number, there are more entries than blocks, an entry is negative
        or not finite, or says as many tokens as there are at its block, of which half can merge at
        most.
    """
    if not isinstance(schedule, Sequence):
        raise ValueError(f"merge schedule {schedule!r} must be a tuple, e.g. ({schedule!r},)")
    schedule = tuple(schedule)
    if len(schedule) > depth:
        raise ValueError(f"merge schedule {schedule} is longer than the {depth} blocks")
    left = tokens
    for block, r in enumerate(schedule):
        merge_count(2, r)
        if left is None:
            continue
        if r >= max(left, 1):
            raise ValueError(
                f"merge schedule {schedule}: block {block} cannot merge {r:g} of {left} tokens; "
                f"at most {left // 2} can"
            )
        left -= merge_count(left, r)
    return schedule + (0,) * (depth - len(schedule))


def merge(
    values: jax.Array,
    salience: jax.Array | None,
    r: float,
    mass: jax.Array | None = None,
    valid: jax.Array | None = None,
    protect_first: bool = False,
    average: bool = True,
) -> Merged:
    """Merges similar tokens (vid-TLDR, section 4.2).

    A clip merges as it would alone: r is counted on its own valid tokens. No gradient flows
    through saliency and matching.

    Args:
      values: [B, N, C], whose cosine similarity decides.
      salience: [B, N] weights of sources, see `saliency`; None for 1 (plain bipartite merging).
      r: tokens to merge a clip, or below 1 their share; at most half of them.
      mass: [B, N] from the merge before; None for 1.
      valid: [B, N] bool, a prefix; None for all.
      protect_first: the first token (cls) never merges into another one. (The official copy in
        FluxViT still merges it when half of an even number of tokens go.)
      average: the mass-weighted mean of vid-TLDR; False adds weighted sources to their
        destination without dividing, as FluxViT's copy does.

    Returns:
      `Merged` with N - merge_count(N, r, protect_first) slots.
    """
    b, n, _ = values.shape
    valid = jnp.ones((b, n), bool) if valid is None else valid
    mass = jnp.ones((b, n), jnp.float32) if mass is None else mass
    salience = jnp.ones((b, n), jnp.float32) if salience is None else salience
    removed = merge_count(n, r, protect_first)
    tokens = jnp.sum(valid, axis=1, dtype=jnp.int32)
    # Looked up rather than computed: a float32 product could round to another integer.
    counts = jnp.array([merge_count(i, r, protect_first) for i in range(n + 1)])[tokens]
    partner, is_source = _match(values, valid, counts, protect_first)
    values32 = values.astype(jnp.float32)
    weight = mass if average else jnp.ones_like(mass)
    given = jnp.where(is_source, jax.lax.stop_gradient(salience), 0.0) * weight
    total, new_mass = weight[..., None] * values32, mass
    rows = jnp.arange(b)[:, None]
    # A source gives to its partner, every other token gives nothing to itself.
    total = total.at[rows, partner].add(given[..., None] * values32)
    if average:
        new_mass = mass.at[rows, partner].add(given)
        total = total / new_mass[..., None]
    kept, place = _reorder(valid & ~is_source, n - removed)
    take = lambda x: jnp.take_along_axis(x, kept, axis=1)  # noqa: E731
    merged = jnp.take_along_axis(total, kept[..., None], axis=1).astype(values.dtype)
    at = jnp.take_along_axis(place, partner, axis=1)
    return Merged(
        values=merged,
        mass=take(new_mass),
        valid=jnp.arange(n - removed)[None] < (tokens - counts)[:, None],
        assignment=jnp.where(valid, at, -1),
    )


def _match(values, valid, counts, protect_first: bool) -> tuple[jax.Array, jax.Array]:
    """Where each token goes [B, N] (itself if it stays), and whether it is a source [B, N]."""
    b, n, _ = values.shape
    metric = jax.lax.stop_gradient(values).astype(jnp.float32)
    norm = jnp.linalg.norm(metric, axis=-1, keepdims=True)
    metric = metric / jnp.where(norm == 0, 1.0, norm)
    similarity = jnp.einsum("bic,bjc->bij", metric[:, 0::2], metric[:, 1::2])
    similarity = jnp.where(valid[:, None, 1::2], similarity, -jnp.inf)
    best = jnp.where(valid[:, 0::2], jnp.max(similarity, axis=-1), -jnp.inf)
    if protect_first:
        best = best.at[:, 0].set(-jnp.inf)
    order = jnp.argsort(-best, axis=1, stable=True)
    rank = jnp.argsort(order, axis=1, stable=True)  # the inverse permutation
    source = rank < counts[:, None]
    itself = jnp.broadcast_to(jnp.arange(n), (b, n))
    partner = jnp.where(source, 2 * jnp.argmax(similarity, axis=-1) + 1, itself[:, 0::2])
    is_source = jnp.zeros((b, n), bool).at[:, 0::2].set(source)
    return itself.at[:, 0::2].set(partner), is_source


def _reorder(stays: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """Even places, then odd ones, then what does not stay: slots to take, and the inverse."""
    n = stays.shape[1]
    place = jnp.arange(n)[None]
    key = jnp.where(stays, place + n * (place % 2), 2 * n + place)
    order = jnp.argsort(key, axis=1, stable=True)
    return order[:, :slots], jnp.argsort(order, axis=1, stable=True).astype(jnp.int32)
