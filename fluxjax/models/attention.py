"""One attention call for every model; how it is computed is chosen by name."""

import jax
import jax.numpy as jnp

BACKENDS = ("xla", "cudnn")


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
      backend: "xla" runs everywhere; "cudnn" is flash attention on NVIDIA GPUs and needs bfloat16
        or float16 and a head size that is a multiple of 8.

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
    if backend != "xla":
        raise ValueError(f"unknown attention back end {backend!r}; choose one of {BACKENDS}")
    # Heads before tokens: XLA's batched matmul on CPU is several times faster on that layout.
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    if valid is not None:
        logits = jnp.where(valid[:, None, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.swapaxes(jnp.einsum("bhnm,bhmd->bhnd", weights, v), 1, 2)
