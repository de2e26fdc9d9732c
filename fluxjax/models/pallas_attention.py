"""Splash attention on TPUs: JAX's Pallas kernel for clips of any length, on a device or a mesh."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fluxjax.models.attention_choice import mesh_axes, shards

# What the kernel gives, as checkpoint policies call it (see `blocks.remat_block`).
ATTENTION_OUTPUT = "attention"
_LANES = 128  # the kernel wants blocks of a multiple of it
_LARGEST_BLOCK = 1024  # tokens; larger ones have not been tried


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


def block_of(tokens: int) -> int:
    """Tokens in a block of the kernel, so that padding and the number of blocks are both small.

    A block is read once for each block it meets, so time grows with padding, and with
    (1 + 128 / block) for the traffic; 3,073 tokens go in 5 blocks of 640, 1,025 in 2.
    """
    blocks = range(_LANES, _LARGEST_BLOCK + 1, _LANES)
    return min(blocks, key=lambda size: (-(-tokens // size) * (size + _LANES), -size))


def _one_device(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array) -> jax.Array:
    """The kernel on tokens padded to whole blocks; padding is keys of another segment."""
    # Imported here: it loads the TPU lowering.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    block_q, block_kv = block_of(q.shape[1]), block_of(k.shape[1])
    queries, keys = -(-q.shape[1] // block_q) * block_q, -(-k.shape[1] // block_kv) * block_kv

    def heads_first(x, tokens):
        padding = ((0, 0), (0, 0), (0, tokens - x.shape[1]), (0, 0))
        return jnp.pad(jnp.swapaxes(x, 1, 2), padding)

    kernel = splash.make_splash_mha_single_device(
        masks.MultiHeadMask([masks.FullMask((queries, keys))] * q.shape[2]),
        block_sizes=splash.BlockSizes(
            **{f"block_q{of}": block_q for of in ("", "_dkv", "_dq")},
            **{f"block_kv{of}": block_kv for of in ("", "_compute", "_dkv", "_dkv_compute", "_dq")},
            # Tokens along lanes: heads of 64 would fill half of each, in memory too.
            **{f"{x}_layout": splash.QKVLayout.SEQ_MINOR for x in "qkv"},
        ),
        residual_checkpoint_name=ATTENTION_OUTPUT,
    )
    segments = splash.SegmentIds(
        q=jnp.ones((q.shape[0], queries), jnp.int32),
        kv=jnp.pad(seen.astype(jnp.int32), ((0, 0), (0, keys - k.shape[1]))),
    )
    out = jax.vmap(kernel)(
        heads_first(q * q.shape[-1] ** -0.5, queries),
        heads_first(k, keys),
        heads_first(v, keys),
        segments,
    )
    return jnp.swapaxes(out, 1, 2)[:, : q.shape[1]]
