"""Devices of TPU slices that are not at hand, to compile for them: `config.dry_run_topology`."""

import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

# Without a TPU its library would ask a metadata server what it runs on, for minutes; and only one
# process at a time could compile, as if it held the TPU.
_ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

# Memory of a device, from Google's pages of the generations; programs for others are not compiled:
# JAX makes no mesh of a v4's devices, two for each chip.
_GIB = {"TPU v5": 95, "TPU v5 lite": 16, "TPU v6 lite": 32}
_SLICE = re.compile(r"[^:]+:(\d+)x(\d+)(?:x(\d+))?")


def open_no_accelerator() -> None:
    """Keeps JAX to the CPU in this process, which only compiles; to be called before anything else.

    Another process may hold the accelerator, and without a TPU its library prints errors when JAX
    looks for one.
    """
    jax.config.update("jax_platforms", "cpu")


def topology_devices(name: str) -> Sequence[jax.Device]:
    """The devices of a TPU slice, such as "v5e:1x1", "v6e:2x4" or "v5p:2x2x1"; to compile for.

    Raises:
      ValueError: on an unknown slice or generation, or without the TPU compiler.
    """
    for variable, value in _ALONE.items():
        os.environ.setdefault(variable, value)
    if not (match := _SLICE.fullmatch(name)):
        raise _no_slice(name, "that is no generation and sides")
    sides = tuple(int(side or 1) for side in match.groups())
    # Less than the chips of one host, which are four by default.
    part = {"chips_per_host_bounds": sides} if 0 < math.prod(sides) < 4 else {}
    try:
        devices = topologies.get_topology_desc(name, platform="tpu", **part).devices
    except RuntimeError as error:  # a JaxRuntimeError too
        if "not installed" in str(error):
            raise ValueError(
                f"dry_run_topology={name!r} needs the TPU compiler, which works without a TPU: "
                'pip install "fluxjax[tpu]"'
            ) from None
        raise _no_slice(name, str(error)) from None
    if (kind := devices[0].device_kind) not in _GIB:
        raise ValueError(
            f"dry_run_topology={name!r}: nothing is compiled for a {kind}; "
            "v5e, v6e and v5p are known"
        )
    return devices


def _no_slice(name: str, reason: str) -> ValueError:
    return ValueError(
        f"dry_run_topology={name!r} is no TPU slice; they are GENERATION:SIDExSIDE, such as "
        f"v5e:2x2, v5e:16x16, v6e:2x4 or v5p:2x2x1 ({reason})"
    )


def memory_of(device: jax.Device) -> int | None:
    """Bytes that a device of a topology has; None where it is not known here."""
    size = _GIB.get(device.device_kind)
    return None if size is None else size * 2**30
