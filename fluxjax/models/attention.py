"""One attention call for every model; how it is computed is chosen by name."""

import functools

import jax
import jax.numpy as jnp

from fluxjax.models.attention_choice import place_of_tracing, resolve, sizes_of
from fluxjax.models.blockwise import BLOCK, blockwise_attention
from fluxjax.models.pallas_attention import pallas_attention
from fluxjax.tokens.merging import sharpness

# Entries of the table of all pairs that may be alive at once off the CPU: in float32 1 GiB.
_ACCELERATOR_BLOCK = 2**28


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    valid: jax.Array | None = None,
    mass: jax.Array | None = None,
    backend: str = "auto",
) -> jax.Array:
    """Softmax attention, softmax in float32, scale 1/sqrt(D).

    Args:
      q: [B, N, H, D] queries.
      k: [B, M, H, D] keys.
      v: [B, M, H, D] values.
      valid: [B, M] bool, a prefix; keys that may be seen. None: all.
      mass: [B, M] positive float32, without gradient: a key counts that many times (vid-TLDR's
        proportional attention over merged tokens, section 4.2). None: once.
      backend: "xla" runs everywhere and holds the table of all pairs; "blockwise" never holds it
        whole, for long clips on CPUs; "cudnn" is flash attention on NVIDIA GPUs and needs bfloat16
        or float16 and a head size that is a multiple of 8; "pallas" is flash attention on TPUs.
        "auto" takes the one that suits the device, see `attention_choice.choose_attention`.

    Returns:
      [B, N, H, D] in q's dtype. A clip without any valid key gives the mean of its values.

    Raises:
      ValueError: on an unknown back end, or one that cannot be used where the program runs.
    """
    mass = None if mass is None else jax.lax.stop_gradient(mass)
    name = resolve(backend, place_of_tracing(), sizes_of(q, k))
    if name in ("cudnn", "pallas"):
        kernel = _cudnn if name == "cudnn" else pallas_attention
        if mass is None:
            return kernel(q, k, v, valid)
        return kernel(*_folded(q, k, v, mass), valid)[..., : q.shape[-1]]
    if name == "blockwise":
        seen = jnp.ones((1, 1), bool) if valid is None else valid
        bias = jnp.zeros((1, 1)) if mass is None else jnp.log(mass)
        return blockwise_attention(q * q.shape[-1] ** -0.5, k, v, seen, bias).astype(q.dtype)
    logits = _logits(q, k, valid)
    if mass is not None:
        logits = logits + jnp.log(mass)[:, None, None]
    return _mix(jax.nn.softmax(logits, axis=-1), v)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of each token to itself and those before it: q, k, v [B, N, H, D] -> [B, N, H, D].

    The table of all pairs is materialised: for short sequences, such as captions.
    """
    logits = _logits(q, k, None)
    seen = jnp.tri(q.shape[1], dtype=bool)
    logits = jnp.where(seen, logits, jnp.finfo(jnp.float32).min)
    return _mix(jax.nn.softmax(logits, axis=-1), v)


def attention_with_sharpness(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    valid: jax.Array | None = None,
    mass: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Attention, and how sharply each token attends: what saliency is computed from (vid-TLDR).

    The table of all pairs never exists as a whole: queries go in blocks, here and in the backward
    pass. In a block the weights of all heads are added up, since sharpness is of their mean.

    Args:
      q, k, v, valid, mass: as in `attention`; N = M.

    Returns:
      [B, N, H, D] in v's dtype, and sharpness [B, N] float32 without gradient: the negative
      entropy of the mean over heads of the weights without `mass`.
    """
    batch, n, heads, width = q.shape
    counted = isinstance(batch, int)  # else it is open, as in exported programs
    cpu = counted and place_of_tracing().platform == "cpu"
    # On a CPU a head at a time, whose table stays in the cache; elsewhere all at once.
    groups, limit = (heads, BLOCK) if cpu else (1, _ACCELERATOR_BLOCK)
    q, k, v = (
        jnp.moveaxis(x.reshape(batch, n, groups, heads // groups, width), 1, 3).swapaxes(0, 1)
        for x in (q * width**-0.5, k, v)
    )  # [groups, B, heads of a group, N, D]
    count = min(-(-batch * heads // groups * n * n // limit), n) if counted else 1
    size = -(-n // count)
    count = -(-n // size)
    q = jnp.pad(q, ((0, 0), (0, 0), (0, 0), (0, count * size - n), (0, 0)))
    q = jnp.moveaxis(q.reshape(*q.shape[:3], count, size, width), 3, 0)
    # Mixed with its mass as another column, a value brings its denominator along.
    share = jnp.ones((batch, n)) if mass is None else jax.lax.stop_gradient(mass)
    share = jnp.broadcast_to(share[:, None, :, None], (*v.shape[:-1], 1)).astype(v.dtype)
    v = jnp.concatenate([v * share, share], axis=-1)
    some = functools.partial(_mixed_and_sharp, k, v, valid)
    out, sharp = some(q[0]) if count == 1 else jax.lax.map(jax.checkpoint(some), q)
    if count > 1:  # [count, groups, B, heads, size, D] and [count, B, size]
        out = jnp.moveaxis(out, 0, 3).reshape(*k.shape[:3], count * size, width)
        sharp = jnp.moveaxis(sharp, 0, 1).reshape(batch, count * size)
    out = jnp.moveaxis(out.swapaxes(0, 1), 3, 1).reshape(batch, count * size, heads, width)
    return out[:, :n], sharp[:, :n]


def _mixed_and_sharp(k, v, valid, q):
    """Of q [G, B, H/G, N, D]: mixed values of the same shape, and sharpness [B, N]."""

    def group(total, qkv):
        q, k, v = qkv
        logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
        if valid is not None:
            logits = jnp.where(valid[:, None, None], logits, jnp.finfo(jnp.float32).min)
        weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
        alone = jax.lax.stop_gradient(weights)
        total = total + jnp.sum(alone / jnp.sum(alone, axis=-1, keepdims=True), axis=1)
        mixed = jnp.einsum(
            "bhnm,bhmd->bhnd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        return total, (mixed[..., :-1] / mixed[..., -1:]).astype(v.dtype)

    groups, batch, heads, rows, _ = q.shape
    total = jnp.zeros((batch, rows, k.shape[3]), jnp.float32)
    total, mixed = jax.lax.scan(group, total, (q, k, v))
    return mixed, sharpness(total / (groups * heads))


def _folded(q: jax.Array, k: jax.Array, v: jax.Array, mass: jax.Array) -> tuple[jax.Array, ...]:
    """q, k and v with more channels, for kernels that know no mass: the first of them is its log.

    There are eight, since cuDNN wants a multiple; scaled so that 1 / sqrt(D + 8) becomes what
    1 / sqrt(D) was.
    """
    width = q.shape[-1]
    wider = (width + 8) ** 0.5
    log_mass = jnp.log(mass).astype(k.dtype)[:, :, None, None]
    one = jnp.full((*q.shape[:-1], 1), wider, q.dtype)
    q = jnp.concatenate([q * (wider / width**0.5), one], axis=-1)
    k = jnp.concatenate([k, jnp.broadcast_to(log_mass, (*k.shape[:-1], 1))], axis=-1)
    return tuple(
        jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, width + 8 - x.shape[-1]))) for x in (q, k, v)
    )


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
