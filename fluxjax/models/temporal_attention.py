"""EVL's temporal cross-attention without its table of a vector for every pair of places.

Source: "Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550), section on local
temporal information; OpenGVLab/efficient-video-recognition, TemporalCrossAttention.

A place of frame t attends to the places of a neighbouring frame with the frozen tower's own queries
and keys; what it sums up are learned vectors of the *offset* between both places. The reference
writes the offset's vector out for every pair: [hw, hw, C], 118 MB for ViT-B/16. Here attention
weights are laid out by offset instead, by padding and reshaping, and multiply the small table.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.tokens.positions import resample_table


def mean_head_attention(q: jax.Array, k: jax.Array) -> jax.Array:
    """Softmax attention of each head, then the mean over heads.

    Heads are taken one after the other and computed again for the gradient, so that no
    [.., H, Q, K] array exists.

    Args:
      q: [.., Q, H, D], not scaled.
      k: [.., K, H, D].

    Returns:
      [.., Q, K] float32.
    """
    heads, scale = q.shape[-2], q.shape[-1] ** -0.5

    def add(total, one):
        q, k = one
        logits = jnp.einsum("...qd,...kd->...qk", q, k, preferred_element_type=jnp.float32)
        return total + jax.nn.softmax(logits, axis=-1), None

    parts = (jnp.moveaxis(q * scale, -2, 0), jnp.moveaxis(k, -2, 0))
    zeros = jnp.zeros((*q.shape[:-2], k.shape[-3]), jnp.float32)
    total, _ = jax.lax.scan(jax.checkpoint(add), zeros, parts)
    return total / heads


def sum_by_offset(weights: jax.Array, table: jax.Array) -> jax.Array:
    """For every query place the sum over key places of weight times the offset's vector.

    out[m, i, j] = sum over k, l of weights[m, (i, j), (k, l)] * table[i - k + h - 1, j - l + w - 1]

    Along columns the weights are shifted into 2w - 1 offsets; along rows the table is cut into its
    h windows of h rows.

    Args:
      weights: [M, h*w, h*w] of query and key places, row-major.
      table: [2h-1, 2w-1, C].

    Returns:
      [M, h*w, C] float32.
    """
    rows, columns = (table.shape[0] + 1) // 2, (table.shape[1] + 1) // 2
    m, offsets = weights.shape[0], 2 * columns - 1
    # Keys in reverse order: offset j - l + w - 1 is then j plus the place in the row.
    x = weights.reshape(m, rows, columns, rows, columns)[..., ::-1]
    x = x.transpose(0, 1, 3, 2, 4)  # [M, i, k, j, l]
    x = jnp.pad(x, ((0, 0),) * 4 + ((0, columns),))
    # Rows of 2w entries read as rows of 2w - 1: row j starts j entries later.
    x = x.reshape(m, rows, rows, 2 * columns**2)[..., : columns * offsets]
    x = x.reshape(m, rows, rows, columns, offsets)  # [M, i, k, j, offset]
    window = jnp.arange(rows)[:, None] - jnp.arange(rows) + rows - 1  # of query row i, key row k
    sums = jnp.einsum("mikjb,ikbc->mijc", x, table[window], preferred_element_type=jnp.float32)
    return sums.reshape(m, rows * columns, table.shape[-1])


def sum_by_offset_at(weights: jax.Array, table: jax.Array, places: jax.Array) -> jax.Array:
    """`sum_by_offset` for clips of which only some places are kept.

    Args:
      weights: [B, T, K, K] of query and key tokens.
      table: [2h-1, 2w-1, C].
      places: [B, K] int32, place of each token, row-major.

    Returns:
      [B, T, K, C] float32.
    """
    span_h, span_w, width = table.shape
    rows, columns = (span_h + 1) // 2, (span_w + 1) // 2
    batch, frames, count, _ = weights.shape
    # Which token is at a place; `count` where there is none, or beyond the border.
    slot = jnp.full((batch, rows * columns), count, jnp.int32)
    slot = slot.at[jnp.arange(batch)[:, None], places].set(jnp.arange(count))
    border = ((0, 0), (rows - 1, rows - 1), (columns - 1, columns - 1))
    slot = jnp.pad(slot.reshape(batch, rows, columns), border, constant_values=count)
    # Offset a stands for the key row i + h - 1 - a, which has h - 1 rows of border before it.
    row = (places // columns)[..., None] + span_h - 1 - jnp.arange(span_h)
    column = (places % columns)[..., None] + span_w - 1 - jnp.arange(span_w)
    token = slot[jnp.arange(batch)[:, None, None, None], row[..., :, None], column[..., None, :]]
    token = token.reshape(batch, 1, count, span_h * span_w)
    weights = jnp.pad(weights, ((0, 0),) * 3 + ((0, 1),))
    by_offset = jnp.take_along_axis(weights, token, axis=-1)
    table = table.reshape(-1, width)
    return jnp.einsum("btqo,oc->btqc", by_offset, table, preferred_element_type=jnp.float32)


class TemporalCrossAttention(nn.Module):
    """Attention to the frames before and after, each with its own table of offsets.

    Attributes:
      features: C.
      grid: (h, w) in patches that the tables were made for; others are resampled.
    """

    features: int
    grid: tuple[int, int]

    @nn.compact
    def __call__(
        self, q: jax.Array, k: jax.Array, grid: tuple[int, int], places: jax.Array | None = None
    ) -> jax.Array:
        """What neighbouring frames add to each token.

        Args:
          q, k: [B, T, 1+K, H, D] of the frozen tower, cls first, which takes no part.
          grid: (h, w) of the frames.
          places: [B, K] of the tokens; None: all of the grid, in order.

        Returns:
          [B, T, 1+K, C] float32; zeros for cls, and where a neighbour is missing.
        """
        q, k = q[:, :, 1:], k[:, :, 1:]
        before = self._sums("w1", q[:, 1:], k[:, :-1], grid, places)
        after = self._sums("w2", q[:, :-1], k[:, 1:], grid, places)
        before = jnp.pad(before, ((0, 0), (1, 0), (0, 0), (0, 0)))
        after = jnp.pad(after, ((0, 0), (0, 1), (0, 0), (0, 0)))
        return jnp.pad(before + after, ((0, 0), (0, 0), (1, 0), (0, 0)))

    def _sums(self, name, q, k, grid, places) -> jax.Array:
        spans = tuple(2 * side - 1 for side in self.grid)
        table = self.param(name, nn.initializers.zeros, (*spans, self.features))
        if grid != self.grid:
            spans = tuple(2 * side - 1 for side in grid)
            table = resample_table(table[None], (1, *spans), (1, *spans))[0]
        weights = mean_head_attention(q, k).astype(q.dtype)
        table = table.astype(q.dtype)
        if places is not None:
            return sum_by_offset_at(weights, table, places)
        b, t, count, _ = weights.shape
        sums = sum_by_offset(weights.reshape(b * t, count, count), table)
        return sums.reshape(b, t, count, self.features)
