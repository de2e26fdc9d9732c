"""Losses of matching videos and captions over the whole batch, whatever devices it lies on.

Every pair of the global batch counts, so its gradient is that of one device that holds it all.
Without `chunk` the table of all pairs is written down, and under `jax.jit` XLA cuts its rows like
the batch. With it a device gathers the embeddings and looks at a few rows of its own at a time,
which the backward pass computes again: memory grows with the batch, not with its square.

Sources: avion/losses/losses.py of zhaoyue-zephyrus/AVION; relevancies as margins as in "Egocentric
Video-Language Pretraining" (arXiv 2206.01670), model/loss.py of showlab/EgoVLP.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fluxjax.models.attention_choice import mesh_axes

_TINY = 1e-8  # smallest norm that `max_margin_loss` divides by


def contrastive_loss(
    video: jax.Array, text: jax.Array, scale: jax.Array, chunk: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of each video's caption among all, and of each caption's video (InfoNCE).

    Args:
      video, text: [B, E] float32 unit vectors; row i of one belongs to row i of the other.
      scale: scalar that their products are multiplied by.
      chunk: rows of the table of pairs that a device holds at a time; None: the whole table.

    Returns:
      The mean of both cross-entropies, and the share of videos whose own caption is the nearest.
    """

    def row(i, own, videos, texts, scale):
        video, text = own
        to_texts, to_videos = scale * _dot(texts, video), scale * _dot(videos, text)
        normalisers = jax.nn.logsumexp(to_texts) + jax.nn.logsumexp(to_videos)
        return 0.5 * normalisers - to_texts[i], jnp.argmax(to_texts) == i

    return _mean_over_batch(row, (video, text), (scale,), chunk)


def max_margin_loss(
    video: jax.Array,
    text: jax.Array,
    margin: float = 0.2,
    relevancy: jax.Array | None = None,
    diagonal: bool = False,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """How far other captions and videos come within a margin of a pair's own similarity.

    The mean over i, j of relu(m + x_ij - x_ii) and relu(m + x_ji - x_ii), x the cosines of texts i
    and videos j.

    Args:
      video, text: [B, E], of any length; row i of one belongs to row i of the other.
      margin: m.
      relevancy: [B] float, of each caption to its video: its pair's margin is as much smaller.
        The reference takes this argument and ignores it. None: 1.
      diagonal: also counts a pair with itself, the margin for either term, as the reference does
        without `fix_norm`.
      chunk: see `contrastive_loss`.

    Returns:
      That mean, and the share of videos whose own caption is the nearest.

    Raises:
      ValueError: on a batch of one pair, which has nothing to be far from.
    """
    count = len(video)
    if count < 2 and not diagonal:
        raise ValueError(
            "max_margin_loss compares pairs with others: it needs a batch of 2 or more"
        )
    unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _TINY)  # noqa: E731
    margins = jnp.full(count, margin) if relevancy is None else margin * relevancy

    def row(i, own, videos, texts):
        video, text, margin = own
        to_videos, to_texts = _dot(videos, text), _dot(texts, video)
        terms = jax.nn.relu(jnp.stack([to_videos, to_texts]) + margin - to_videos[i])
        found = jnp.argmax(to_texts) == i
        return jnp.sum(terms if diagonal else terms.at[:, i].set(0.0)), found

    total, top1 = _mean_over_batch(row, (unit(video), unit(text), margins), (), chunk)
    return total / (2 * count if diagonal else 2 * (count - 1)), top1


def _dot(rows: jax.Array, vector: jax.Array) -> jax.Array:
    """[B, E], [E] -> [B] in full float32: similarities are multiplied by up to 100."""
    return jnp.matmul(rows, vector, precision=jax.lax.Precision.HIGHEST)


def _mean_over_batch(
    row: Callable[..., Any], own: tuple[jax.Array, ...], shared: tuple[Any, ...], chunk: int | None
) -> Any:
    """Mean over i of `row(i, own arrays at i, all videos, all texts, *shared)`, float32.

    Args:
      row: gives scalars.
      own: videos, texts, and what else there is of every pair; [B, ..] each.
      shared: what all rows have in common.
      chunk: rows at a time on each device; None: all at once.
    """
    axes = mesh_axes(jax.sharding.get_abstract_mesh(), "batch")
    if chunk is None or not axes:
        return _mean(_rows(row, 0, own, own[:2], shared, chunk))
    cut = PartitionSpec(axes)

    @functools.partial(jax.shard_map, in_specs=(cut, PartitionSpec()), out_specs=PartitionSpec())
    def on_every_device(own, shared):
        start = jax.lax.axis_index(axes) * len(own[0])
        everything = [jax.lax.all_gather(x, axes, tiled=True) for x in own[:2]]
        return jax.lax.pmean(_mean(_rows(row, start, own, everything, shared, chunk)), axes)

    return on_every_device(own, shared)


def _rows(row, start, own, everything, shared, chunk):
    def at(i, own):
        return row(i, own, *everything, *shared)

    places = start + jnp.arange(len(own[0]))
    if chunk is None:
        return jax.vmap(at)(places, own)
    return jax.lax.map(lambda x: jax.checkpoint(at)(*x), (places, own), batch_size=chunk)


def _mean(rows: Any) -> Any:
    return jax.tree.map(lambda x: jnp.mean(x, dtype=jnp.float32), rows)
