"""Which back end computes attention where a program runs: "auto" chooses, other names are checked.

The choice is made while tracing. A program that is traced on a mesh (`jax.set_mesh`) runs on the
mesh's devices, any other one where JAX puts arrays by default.
"""

import contextlib
import contextvars
import functools
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.models.blockwise import BLOCK

log = logging.getLogger(__name__)

BACKENDS = ("auto", "xla", "blockwise", "cudnn", "pallas")
# Below as many keys XLA's table is small, and the kernel's blocks of 128 are padding for a good
# part. Not measured.
_PALLAS_KEYS = 512
_PALLAS_HEADS = (4, 256)  # widths; of 1 it does not compile, of 512 its blocks overflow vmem


class Place(NamedTuple):
    """Where a program will run.

    Attributes:
      platform: "cpu", "cuda", "rocm" or "tpu".
      devices: over how many of them its arrays may be spread.
      clip_shards: parts that the mesh cuts batches into; None: not known, there is no mesh.
      capability: compute capability of NVIDIA GPUs; (0, 0) elsewhere.
    """

    platform: str
    devices: int = 1
    clip_shards: int | None = None
    capability: tuple[int, int] = (0, 0)


class Sizes(NamedTuple):
    """What is attended to: q [B, N, H, D] and k [B, M, H, D] of a dtype.

    Attributes:
      clips: B; None: not known, as in exported programs.
      queries: N.
      keys: M.
      heads: H.
      head_dim: D.
      dtype: of q, k and v.
    """

    clips: int | None
    queries: int
    keys: int
    heads: int
    head_dim: int
    dtype: Any


def choose_attention(place: Place, sizes: Sizes) -> tuple[str, str]:
    """What "auto" stands for: the name of a back end, and why it is this one."""
    if sizes.clips is None:
        return "xla", "the number of clips is open, as in exported programs, which run anywhere"
    if sizes.queries == 1:
        return "xla", "one query a clip"
    if place.platform == "cpu":
        # A table of all pairs that is larger than the cache had better never exist as a whole.
        pairs = sizes.clips * sizes.heads * sizes.queries * sizes.keys
        return ("blockwise", "long clips on CPUs") if pairs > 4 * BLOCK else ("xla", "on CPUs")
    name = {"cuda": "cudnn", "tpu": "pallas"}.get(place.platform)
    if name is None:
        return "xla", f"nothing else runs on {place.platform}"
    if name == "pallas" and sizes.keys < _PALLAS_KEYS:
        return "xla", f"fewer than {_PALLAS_KEYS} tokens"
    reason = obstacle(name, place, sizes)
    return (name, f"flash attention on {place.platform}") if reason is None else ("xla", reason)


def obstacle(name: str, place: Place, sizes: Sizes) -> str | None:
    """Why a back end cannot be used, None if it can."""
    if name == "blockwise":
        return "it needs a known number of clips" if sizes.clips is None else None
    if name == "cudnn":
        return _obstacle_to_cudnn(place, sizes)
    if name == "pallas":
        return _obstacle_to_pallas(place, sizes)
    return None


def _obstacle_to_cudnn(place: Place, sizes: Sizes) -> str | None:
    # The limits of jax.nn.dot_product_attention(implementation="cudnn") and of cuDNN itself.
    if place.platform != "cuda":
        return f"cudnn needs an NVIDIA GPU, the program runs on {place.platform}"
    major, minor = place.capability
    if major < 8:
        return f"cudnn needs compute capability 8.0, the GPU has {major}.{minor}"
    if jnp.dtype(sizes.dtype) not in (jnp.bfloat16, jnp.float16):
        return f"cudnn needs bfloat16 or float16, the dtype is {jnp.dtype(sizes.dtype)}"
    largest = 256 if major >= 9 else 128
    if sizes.head_dim % 8 or sizes.head_dim > largest:
        return f"cudnn needs heads of a multiple of 8 up to {largest}, they have {sizes.head_dim}"
    return None


def _obstacle_to_pallas(place: Place, sizes: Sizes) -> str | None:
    if place.platform != "tpu":
        return f"pallas needs a TPU, the program runs on {place.platform}"
    if jnp.dtype(sizes.dtype) not in (jnp.bfloat16, jnp.float32):
        return f"pallas needs bfloat16 or float32, the dtype is {jnp.dtype(sizes.dtype)}"
    smallest, largest = _PALLAS_HEADS
    if not smallest <= sizes.head_dim <= largest:
        return f"pallas needs heads of {smallest} to {largest}, they have {sizes.head_dim}"
    if place.devices == 1:
        return None
    if place.clip_shards is None:
        return (
            f"pallas on {place.devices} devices needs a mesh to be cut along, and the program is "
            "traced on none"
        )
    if sizes.clips is None or sizes.clips % place.clip_shards:
        return f"pallas needs clips in a multiple of the mesh's {place.clip_shards} parts"
    return None


_plain = contextvars.ContextVar("plain attention", default=False)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Programs traced in this context use "xla" whatever was named: XLA counts no other's FLOP."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def resolve(name: str, place: Place, sizes: Sizes) -> str:
    """The back end of a name: itself if it can be used; what "auto" stands for, said in the log.

    Raises:
      ValueError: on an unknown back end, or one that cannot be used here.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown attention back end {name!r}; choose one of {BACKENDS}")
    if _plain.get():
        return "xla"
    if name == "auto":
        chosen = choose_attention(place, sizes)
        _say(*chosen)
        return chosen[0]
    if (reason := obstacle(name, place, sizes)) is not None:
        raise ValueError(f"attention={name!r} cannot be used: {reason}; set it to 'auto' or 'xla'")
    return name


@functools.cache  # once in a process
def _say(name: str, why: str) -> None:
    log.info("attention is computed by %s: %s", name, why)


def sizes_of(q: jax.Array, k: jax.Array) -> Sizes:
    """Of q [B, N, H, D] and k [B, M, H, D]."""
    known = all(isinstance(side, int) for side in (*q.shape, *k.shape))
    return Sizes(q.shape[0] if known else None, q.shape[1], k.shape[1], *q.shape[2:], q.dtype)


def place_of_tracing() -> Place:
    """Where the program that is being traced will run."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.abstract_device is None:
        default = jax.config.jax_default_device
        platform = getattr(default, "platform", default) or jax.default_backend()
        place = Place(platform, 1 if default else jax.device_count())
    else:
        place = Place(mesh.abstract_device.platform, mesh.size, shards(mesh, "batch"))
    return _with_kind_of_gpu(place) if place.platform == "gpu" else place


def mesh_axes(mesh: jax.sharding.AbstractMesh, name: str) -> tuple[str, ...]:
    """Axes of the mesh that activations' axis "batch" or "heads" is cut along, by flax's rules."""
    axes = nn.logical_to_mesh_axes((name,))[0]
    axes = (axes,) if isinstance(axes, str) else axes or ()
    return tuple(axis for axis in axes if axis in mesh.axis_names)


def shards(mesh: jax.sharding.AbstractMesh, name: str) -> int:
    """Parts that an axis of activations is cut into; see `mesh_axes`."""
    return int(np.prod([mesh.shape[axis] for axis in mesh_axes(mesh, name)], dtype=int))


def _with_kind_of_gpu(place: Place) -> Place:
    device = jax.local_devices(backend="gpu")[0]
    if "cuda" not in device.client.platform_version:
        return place._replace(platform="rocm")
    major, minor = device.compute_capability.split(".")
    return place._replace(platform="cuda", capability=(int(major), int(minor)))
