"""Softmax attention one head and one block of queries at a time, with its own gradient.

On a CPU the time of attention over thousands of tokens goes into writing and reading the table of
all pairs, which is far larger than any cache. Here a block of the table is made, used and
forgotten, and made again in the backward pass (as in FlashAttention, arXiv 2205.14135, but with all
keys at once, so that no running maximum is needed). The memory is that of inputs and outputs.
"""

import functools

import jax
import jax.numpy as jnp

BLOCK = 2**20  # entries of the table that are alive at once; in float32 4 MiB, about a cache


@jax.custom_vjp
def blockwise_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array, bias: jax.Array
) -> jax.Array:
    """Attention as in `fluxjax.models.attention.attention`; no forward-mode differentiation.

    Heads are a loop and clips a batch, so clips may be sharded over devices.

    Args:
      q: [B, N, H, D], scaled by the caller.
      k: [B, M, H, D].
      v: [B, M, H, D].
      valid: [B, M] bool, or [1, 1] True for all keys.
      bias: [B, M] or [1, 1] float32, added to a key's logits; without gradient.

    Returns:
      [B, N, H, D] in v's dtype.
    """
    return _forward(q, k, v, valid, bias)[0]


def _forward(q, k, v, valid, bias):
    def head(qkv):
        q, k, v = qkv

        def block(q):
            logits = _logits(q, k, valid, bias)
            peak = jnp.max(logits, axis=-1, keepdims=True)
            weights = jnp.exp(logits - peak)
            total = jnp.sum(weights, axis=-1, keepdims=True)
            # Divided after the product: D columns instead of M.
            mixed = _product("bnm,bmd->bnd", weights.astype(v.dtype), v) / total
            return mixed.astype(v.dtype), peak, 1 / total

        return jax.lax.map(block, _cut(q, k.shape[1]))

    out, peak, share = jax.lax.map(head, tuple(_heads_first(x) for x in (q, k, v)))
    out = _heads_last(jax.vmap(functools.partial(_join, rows=q.shape[1]))(out))
    return out, (q, k, v, valid, bias, out, peak, share)


def _backward(saved, gradient):
    q, k, v, valid, bias, out, peak, share = saved
    # The softmax's gradient needs the sum over keys of weight times gradient: out . gradient.
    along = jnp.sum(out.astype(jnp.float32) * gradient.astype(jnp.float32), axis=-1, keepdims=True)

    def head(inputs):
        q, k, v, gradient, along, peak, share = inputs

        def block(sums, parts):
            q, gradient, along, peak, share = parts
            weights = jnp.exp(_logits(q, k, valid, bias) - peak) * share
            slope = weights * (_product("bnd,bmd->bnm", gradient, v) - along)
            if valid.size > 1:  # matters for a clip without any valid key only
                slope = jnp.where(valid[:, None], slope, 0)
            weights, slope = weights.astype(v.dtype), slope.astype(v.dtype)
            # As [D, M]: with the long table on the left, transposed, these take twice the time.
            to_k = _product("bnd,bnm->bdm", q, slope)
            to_v = _product("bnd,bnm->bdm", gradient, weights)
            to_q = _product("bnm,bmd->bnd", slope, k)
            return (sums[0] + to_k, sums[1] + to_v), to_q

        zeros = jnp.zeros((k.shape[0], k.shape[2], k.shape[1]), jnp.float32)
        blocks = tuple(_cut(x, k.shape[1]) for x in (q, gradient, along)) + (peak, share)
        (to_k, to_v), to_q = jax.lax.scan(block, (zeros, zeros), blocks)
        return _join(to_q, q.shape[1]), jnp.swapaxes(to_k, 1, 2), jnp.swapaxes(to_v, 1, 2)

    inputs = tuple(_heads_first(x) for x in (q, k, v, gradient.astype(v.dtype), along))
    results = jax.lax.map(head, inputs + (peak, share))
    results = (
        _heads_last(result).astype(x.dtype) for result, x in zip(results, (q, k, v), strict=True)
    )
    return (*results, None, None)


blockwise_attention.defvjp(_forward, _backward)


def _product(formula: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(formula, a, b, preferred_element_type=jnp.float32)


def _logits(q: jax.Array, k: jax.Array, valid: jax.Array, bias: jax.Array) -> jax.Array:
    logits = _product("bnd,bmd->bnm", q, k)
    if bias.size > 1:
        logits = logits + bias[:, None]
    if valid.size == 1:
        return logits
    return jnp.where(valid[:, None], logits, jnp.finfo(jnp.float32).min)


def _heads_first(x: jax.Array) -> jax.Array:
    """[B, N, H, D] -> [H, B, N, D]."""
    return jnp.moveaxis(x, 2, 0)


def _heads_last(x: jax.Array) -> jax.Array:
    """[H, B, N, D] -> [B, N, H, D]."""
    return jnp.moveaxis(x, 0, 2)


def _cut(x: jax.Array, keys: int) -> jax.Array:
    """[B, N, D] -> [blocks, B, rows, D] of equal blocks, padded with zeros at the end."""
    batch, n, d = x.shape
    blocks = min(-(-batch * n * keys // BLOCK), n)
    rows = -(-n // blocks)
    x = jnp.pad(x, ((0, 0), (0, blocks * rows - n), (0, 0)))
    return jnp.moveaxis(x.reshape(batch, blocks, rows, d), 1, 0)


def _join(x: jax.Array, rows: int) -> jax.Array:
    """Undoes `_cut`."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, :rows]
