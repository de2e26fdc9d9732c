"""What every benchmark shares: repeated timing, the machine's name, the table and its JSON."""

import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax

from fluxjax.evaluation.machine import processor


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Wall seconds of each function, run in turn A B C A B C .. after one warm-up each.

    Turns, so that a machine that slows down slows all of them down alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds: Sequence[float]) -> str:
    """Median and range in milliseconds."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1e3:.1f} ({low * 1e3:.1f} to {high * 1e3:.1f}) ms"


def machine() -> dict[str, Any]:
    """Processor, devices, cores and versions."""
    names = ("jax", "jaxlib", "flax", "numpy", "tensorflow", "av")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": versions,
    }


def publish(title: str, rows: Sequence[Mapping[str, Any]], path: str | None) -> None:
    """Prints the rows as a Markdown table under the machine's name; writes JSON to `path`."""
    here = machine()
    print(f"\n{title}\n{here['processor']}, {here['cores']} cores; devices {here['devices']}; "
          + ", ".join(f"{k} {v}" for k, v in here["versions"].items() if v) + "\n")  # fmt: skip
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")
    if path:
        text = json.dumps({"title": title, "machine": here, "rows": list(rows)}, indent=2)
        pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
