"""The devices of a run, as they are called in its log."""

import collections
import os

import jax


def devices_in_words() -> str:
    """E.g. "2 CPU cores", "NVIDIA H100 80GB HBM3 x 1", "TPU v4 x 8 in 2 processes"."""
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    processes = jax.process_count()
    several = f" in {processes} processes" if processes > 1 else ""
    if jax.devices()[0].platform == "cpu":
        simulated = f" as {jax.device_count()} devices" if jax.device_count() > processes else ""
        return f"{_cores()} CPU cores{simulated}{several}"
    return ", ".join(f"{kind} x {count}" for kind, count in kinds.items()) + several


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
