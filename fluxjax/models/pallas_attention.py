"""Flash attention on TPUs: JAX's Pallas kernel for clips of any length, on one device or a mesh."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fluxjax.models.attention_choice import mesh_axes, shards

_BLOCK = 128  # tokens; the kernel wants whole blocks


def pallas_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array | None
) -> jax.Array:
    """Attention as in `fluxjax.models.attention.attention`.

    XLA cannot cut the kernel. On a mesh every device runs it on its own clips, and on its own heads
    where the mesh's devices divide them.

    Args:
      q: [B, N, H, D].
      k: [B, M, H, D].
      v: [B, M, H, D].
      valid: [B, M] bool, a prefix; None: all keys.

    Returns:
      [B, N, H, D] in q's dtype.
    """
    seen = jnp.ones(k.shape[:2], bool) if valid is None else valid
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return _one_device(q, k, v, seen)
    clips = mesh_axes(mesh, "batch")
    heads = mesh_axes(mesh, "heads") if q.shape[2] % shards(mesh, "heads") == 0 else ()
    spec = PartitionSpec(clips or None, None, heads or None)
    # Pallas does not tell along which axes a result varies, which check_vma would want to know.
    run = jax.shard_map(
        _one_device,
        in_specs=(spec, spec, spec, PartitionSpec(clips or None)),
        out_specs=spec,
        check_vma=False,
    )
    return run(q, k, v, seen)


def _one_device(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array) -> jax.Array:
    """The kernel on tokens padded to whole blocks; padding is keys of another segment."""
    from jax.experimental.pallas.ops.tpu import flash_attention as tpu  # imports TPU lowering

    queries, keys = (-(-x.shape[1] // _BLOCK) * _BLOCK for x in (q, k))

    def blocks(x, tokens):
        padding = ((0, 0), (0, 0), (0, tokens - x.shape[1]), (0, 0))
        return jnp.pad(jnp.swapaxes(x, 1, 2), padding)

    segments = tpu.SegmentIds(
        q=jnp.ones((q.shape[0], queries), jnp.int32),
        kv=jnp.pad(seen.astype(jnp.int32), ((0, 0), (0, keys - k.shape[1]))),
    )
    out = tpu.flash_attention(
        blocks(q, queries),
        blocks(k, keys),
        blocks(v, keys),
        segment_ids=segments,
        sm_scale=q.shape[-1] ** -0.5,
    )
    return jnp.swapaxes(out, 1, 2)[:, : q.shape[1]]
