"""The device mesh, and where arrays live on it. Models know nothing of it."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
# Batches are cut over both: with fsdp, devices that share parameters see different clips.
BATCH_AXES = ("data", "fsdp")

# The end of a parameter's path -> how its axes are cut, the first match counts. A product of two
# matrices is cut along `tensor` on its inner axis, so that it costs one sum over devices.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"(^|/)patch_embed/(proj/)?kernel$", PartitionSpec(None, "fsdp")),
    (r"(^|/)(qkv|q|k|v|query|key|value|fc1|c_fc|in_proj)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"(^|/)(proj|out|fc2|c_proj|out_proj)/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"(^|/)kernel$", PartitionSpec("fsdp")),
    (r"(^|/)embedding$", PartitionSpec(None, "fsdp")),
    (r"(^|/)position_table$", PartitionSpec(None, None, None, "fsdp")),
    (r"(^|/)spatial_table$", PartitionSpec(None, None, "fsdp")),
)


def make_mesh(
    sizes: Mapping[str, int | None] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Devices in a grid with the axes data, fsdp and tensor.

    Args:
      sizes: devices along each axis, `config.mesh`; an axis that is None takes what is left, one
        that is absent is 1. None: all devices on `data`.
      devices: None: all of all processes.

    Raises:
      ValueError: if an axis is unknown or more than one is None, or the sizes do not multiply to
        the number of devices.
    """
    sizes = {"data": None} if sizes is None else dict(sizes)
    count = jax.device_count() if devices is None else len(devices)
    unknown = sorted(set(sizes) - set(AXES))
    if unknown:
        raise ValueError(f"unknown mesh axes {unknown}; known: {AXES}")
    open_axes = [axis for axis, size in sizes.items() if size is None]
    fixed = int(np.prod([size for size in sizes.values() if size is not None], dtype=int))
    if len(open_axes) > 1:
        raise ValueError(f"only one mesh axis may be None, got {open_axes}")
    if fixed < 1 or count % fixed or (not open_axes and fixed != count):
        raise ValueError(
            f"mesh {sizes} does not fit {count} devices: their product must be {count}; leave one "
            "axis None to let it take what is left"
        )
    shape = tuple(count // fixed if axis in open_axes else sizes.get(axis, 1) for axis in AXES)
    if shape[0] * shape[1] % jax.process_count():
        raise ValueError(
            f"mesh {sizes}: data x fsdp = {shape[0] * shape[1]} must be a multiple of the "
            f"{jax.process_count()} processes, since each of them reads its own clips"
        )
    axis_types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(shape, AXES, axis_types=axis_types, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays cut along their first axis."""
    return NamedSharding(mesh, PartitionSpec(_batch_axes(mesh)))


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is cut."""
    return int(np.prod([mesh.shape[axis] for axis in _batch_axes(mesh)]))


@contextlib.contextmanager
def activations_on(mesh: Mesh) -> Iterator[None]:
    """Programs traced in this context keep activations cut along the batch only.

    Models mark them with `flax.linen.with_logical_constraint(x, ("batch", ..))`, which does nothing
    outside of such a context. Attention kernels that XLA cannot cut run on each device's own clips
    and heads.
    """
    heads = ("tensor",) if "tensor" in mesh.axis_names else ()
    rules = (("batch", _batch_axes(mesh)), ("heads", heads))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        yield


def _batch_axes(mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis in BATCH_AXES if axis in mesh.axis_names)


def replicated(mesh: Mesh) -> NamedSharding:
    """Arrays whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """How the parameter at `path` ("blocks_0/attn/qkv/kernel") is cut on `mesh`.

    An axis of the array that the devices along its mesh axis do not divide stays whole (the dry
    run's table shows it); parameters that no rule matches, such as norms and biases, are on every
    device.
    """
    rule = next((spec for pattern, spec in RULES if re.search(pattern, path)), PartitionSpec())
    if path.endswith("kernel") and len(shape) > 3:  # of a convolution, [.., in, out]
        rule = (None,) * (len(shape) - 2) + tuple(rule)
    cut = []
    for size, axis in zip(shape, rule, strict=False):
        ways = mesh.shape.get(axis, 1) if axis else 1
        cut.append(axis if ways > 1 and size % ways == 0 else None)
    while cut and cut[-1] is None:
        cut.pop()
    return PartitionSpec(*cut)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for each leaf of a state: optimizer state is cut like its parameter.

    The names of dictionary keys make a leaf's path; the optimizer keeps trees of the parameters'
    structure, so its leaves end in the same names.
    """

    def place(path, leaf):
        names = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return NamedSharding(mesh, spec_of("/".join(names), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(place, tree)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a host batch -> global arrays; the copy runs asynchronously.

    Numbers of examples, int64 on the host, are int32 on devices, as JAX has integers.
    """
    sharding = batch_sharding(mesh)
    rows = {n: x.astype(np.int32) if x.dtype == np.int64 else x for n, x in batch.items()}
    return {n: jax.make_array_from_process_local_data(sharding, x) for n, x in rows.items()}


def abstract(tree: Any, placement: Any) -> Any:
    """Shapes, dtypes and placement of a tree, for compilation and restoring.

    Args:
      tree: of arrays or shapes.
      placement: one sharding for all leaves, or a tree of them.
    """
    if isinstance(placement, jax.sharding.Sharding):
        placement = jax.tree.map(lambda _: placement, tree)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
        placement,
    )
