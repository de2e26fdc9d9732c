"""What measurements of time depend on: processor, accelerator, number of cores."""

import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax

from fluxjax.version import __version__

_DECISIVE = ("processor", "cores", "devices")


def this_machine() -> dict[str, Any]:
    """Processor, cores, accelerators (each kind once) and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "devices": sorted({device.device_kind for device in jax.devices()}),
        "jax": jax.__version__,
        "fluxjax": __version__,
    }


def same_machine(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether times of one hold for the other."""
    return all(a.get(name) == b.get(name) for name in _DECISIVE)


def processor() -> str:
    """Name of the processor."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
