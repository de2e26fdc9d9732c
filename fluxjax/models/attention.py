"""One attention call for every model; how it is computed is chosen by name."""

import jax
import jax.numpy as jnp

from fluxjax.models.blockwise import BLOCK, blockwise_attention

BACKENDS = ("xla", "cudnn", "pallas")
_TPU_BLOCK = 128  # tokens; the kernel wants whole blocks


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    valid: jax.Array | None = None,
    backend: str = "xla",
) -> jax.Array:
    """Softmax attention, softmax in float32, scale 1/sqrt(D).

    Args:
      q: [B, N, H, D] queries.
      k: [B, M, H, D] keys.
      v: [B, M, H, D] values.
      valid: [B, M] bool, a prefix; keys that may be seen. None: all.
      backend: "xla" runs everywhere, for long clips on CPUs in blocks (see `blockwise`); "cudnn" is
        flash attention on NVIDIA GPUs and needs bfloat16 or float16 and a head size that is a
        multiple of 8; "pallas" is flash attention on TPUs.

    Returns:
      [B, N, H, D] in q's dtype. A clip without any valid key gives the mean of its values.

    Raises:
      ValueError: on an unknown back end.
    """
    if backend == "cudnn":
        # cuDNN takes padding as lengths: masks make it slow or wrong (jax#28974).
        lengths = None if valid is None else jnp.sum(valid, axis=1, dtype=jnp.int32)
        queries = None if valid is None else jnp.full(q.shape[0], q.shape[1], jnp.int32)
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            query_seq_lengths=queries,
            key_value_seq_lengths=lengths,
            implementation="cudnn",
        )
    if backend == "pallas":
        return _pallas(q, k, v, valid)
    if backend != "xla":
        raise ValueError(f"unknown attention back end {backend!r}; choose one of {BACKENDS}")
    if _in_blocks(q, k):
        seen = jnp.ones((1, 1), bool) if valid is None else valid
        return blockwise_attention(q * q.shape[-1] ** -0.5, k, v, seen).astype(q.dtype)
    return _mix(jax.nn.softmax(_logits(q, k, valid), axis=-1), v)


def _in_blocks(q: jax.Array, k: jax.Array) -> bool:
    """Whether the table of all pairs is so large that a CPU had better never hold it whole."""
    pairs = q.shape[0] * q.shape[2] * q.shape[1] * k.shape[1]
    # Exported programs have a batch of unknown size, and run on other platforms as well.
    known = isinstance(pairs, int)
    return known and jax.default_backend() == "cpu" and pairs > 4 * BLOCK and q.shape[1] > 1


def attention_with_weights(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    valid: jax.Array | None = None,
    mass: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Proportional attention for token merging (vid-TLDR, section 4.2), and the plain weights.

    Args:
      q, k, v, valid: as in `attention`; N = M.
      mass: [B, M] positive float32, how much was merged into each token: a key counts that many
        times. None: once.

    Returns:
      [B, N, H, D] in q's dtype, and the softmax [B, H, N, M] float32 without `mass`, which
      saliency is computed from. Both are materialised: for the few blocks that merge.
    """
    logits = _logits(q, k, valid)
    weights = jax.nn.softmax(logits, axis=-1)
    if mass is None:
        return _mix(weights, v), weights
    shifted = logits + jnp.log(jax.lax.stop_gradient(mass))[:, None, None]
    return _mix(jax.nn.softmax(shifted, axis=-1), v), weights


def _pallas(q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array | None) -> jax.Array:
    """JAX's TPU kernel, on tokens padded to whole blocks; padding is keys of another segment."""
    from jax.experimental.pallas.ops.tpu import flash_attention as tpu  # imports TPU lowering

    queries, keys = (-(-x.shape[1] // _TPU_BLOCK) * _TPU_BLOCK for x in (q, k))

    def blocks(x, tokens):
        padding = ((0, 0), (0, 0), (0, tokens - x.shape[1]), (0, 0))
        return jnp.pad(jnp.swapaxes(x, 1, 2), padding)

    seen = jnp.ones(k.shape[:2], jnp.int32) if valid is None else valid.astype(jnp.int32)
    segments = tpu.SegmentIds(
        q=jnp.ones((q.shape[0], queries), jnp.int32),
        kv=jnp.pad(seen, ((0, 0), (0, keys - k.shape[1]))),
    )
    out = tpu.flash_attention(
        blocks(q, queries),
        blocks(k, keys),
        blocks(v, keys),
        segment_ids=segments,
        sm_scale=q.shape[-1] ** -0.5,
    )
    return jnp.swapaxes(out, 1, 2)[:, : q.shape[1]]


def _logits(q: jax.Array, k: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Scaled products [B, H, N, M] float32, invalid keys at the lowest number."""
    # Heads before tokens: XLA's batched matmul on CPU is several times faster on that layout.
    q, k = jnp.swapaxes(q * q.shape[-1] ** -0.5, 1, 2), jnp.swapaxes(k, 1, 2)
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    if valid is None:
        return logits
    return jnp.where(valid[:, None, None], logits, jnp.finfo(jnp.float32).min)


def _mix(weights: jax.Array, v: jax.Array) -> jax.Array:
    """Sums of values [B, N, H, D] under weights [B, H, N, M]."""
    mixed = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), jnp.swapaxes(v, 1, 2))
    return jnp.swapaxes(mixed, 1, 2)
