"""One attention call for every model; how it is computed is chosen by name."""

import jax
import jax.numpy as jnp

from fluxjax.models.attention_choice import place_of_tracing, resolve, sizes_of
from fluxjax.models.blockwise import blockwise_attention
from fluxjax.models.pallas_attention import pallas_attention


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    valid: jax.Array | None = None,
    backend: str = "auto",
) -> jax.Array:
    """Softmax attention, softmax in float32, scale 1/sqrt(D).

    Args:
      q: [B, N, H, D] queries.
      k: [B, M, H, D] keys.
      v: [B, M, H, D] values.
      valid: [B, M] bool, a prefix; keys that may be seen. None: all.
      backend: "xla" runs everywhere and holds the table of all pairs; "blockwise" never holds it
        whole, for long clips on CPUs; "cudnn" is flash attention on NVIDIA GPUs and needs bfloat16
        or float16 and a head size that is a multiple of 8; "pallas" is flash attention on TPUs.
        "auto" takes the one that suits the device, see `attention_choice.choose_attention`.

    Returns:
      [B, N, H, D] in q's dtype. A clip without any valid key gives the mean of its values.

    Raises:
      ValueError: on an unknown back end, or one that cannot be used where the program runs.
    """
    name = resolve(backend, place_of_tracing(), sizes_of(q, k))
    if name == "cudnn":
        return _cudnn(q, k, v, valid)
    if name == "pallas":
        return pallas_attention(q, k, v, valid)
    if name == "blockwise":
        seen = jnp.ones((1, 1), bool) if valid is None else valid
        return blockwise_attention(q * q.shape[-1] ** -0.5, k, v, seen).astype(q.dtype)
    return _mix(jax.nn.softmax(_logits(q, k, valid), axis=-1), v)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of each token to itself and those before it: q, k, v [B, N, H, D] -> [B, N, H, D].

    The table of all pairs is materialised: for short sequences, such as captions.
    """
    logits = _logits(q, k, None)
    seen = jnp.tri(q.shape[1], dtype=bool)
    logits = jnp.where(seen, logits, jnp.finfo(jnp.float32).min)
    return _mix(jax.nn.softmax(logits, axis=-1), v)


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


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array | None) -> jax.Array:
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
