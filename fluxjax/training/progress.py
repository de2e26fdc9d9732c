"""The progress line of a training run, and its metrics."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fluxjax.training.nonfinite import FINITE, FIRST_BAD

LOG_SECONDS = 30  # between progress lines of long work


class Progress:
    """Collects metrics between log points without waiting for the device in between."""

    def __init__(self, first_step: int, total_steps: int, clips_per_step: int):
        """Starts the clock at `first_step`."""
        self._total = total_steps
        self._clips = clips_per_step
        self._logged_step = first_step
        self._metrics: list[Mapping[str, jax.Array]] = []
        self._waited = 0.0
        self._logged_time = time.perf_counter()

    def add(self, metrics: Mapping[str, jax.Array], waited: float) -> None:
        """Notes one step's metrics (still on the device) and its seconds of waiting for data."""
        self._metrics.append(metrics)
        self._waited += waited

    def flush(self, step: int) -> tuple[str, dict[str, float]]:
        """The line to print and the mean scalars since the last flush.

        Steps with non-finite numbers are counted as `skipped` and left out of the means.
        """
        values = jax.device_get(self._metrics)
        counted = [v for v in values if v[FINITE]] or values
        names = [name for name in values[0] if name not in (FINITE, FIRST_BAD)]
        scalars = {name: float(np.mean([v[name] for v in counted])) for name in names}
        if skipped := sum(not v[FINITE] for v in values):
            scalars["skipped"] = float(skipped)
        elapsed = time.perf_counter() - self._logged_time
        steps = step - self._logged_step
        timing = {
            "clips_per_second": self._clips * steps / elapsed,
            "data_wait": self._waited / elapsed,
            "eta_seconds": (self._total - step) * elapsed / steps,
        }
        line = progress_line(step, self._total, scalars, timing)
        self._metrics, self._waited = [], 0.0
        self._logged_step, self._logged_time = step, time.perf_counter()
        return line, scalars | timing


def progress_line(
    step: int, total: int, scalars: Mapping[str, float], timing: Mapping[str, float]
) -> str:
    """One line: step, loss and its terms, accuracies, clips/s, data wait, time left."""
    parts = [f"step {step:>{len(str(total))}}/{total}", f"loss {scalars['loss']:.3f}"]
    accuracies = {k: v for k, v in scalars.items() if k.startswith("top1_")}
    others = {k: v for k, v in scalars.items() if k not in accuracies and k != "loss"}
    parts.append(" ".join(f"{name} {_short(value)}" for name, value in others.items()))
    if accuracies:
        shares = (f"{name.removeprefix('top1_')}: {v:.0%}" for name, v in accuracies.items())
        parts.append("top-1 at " + ", ".join(shares))
    parts.append(f"{timing['clips_per_second']:.1f} clips/s")
    parts.append(f"data wait {timing['data_wait']:.0%}")
    parts.append(f"ETA {duration(timing['eta_seconds'])}")
    return " | ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    seconds = round(seconds)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(value: Any) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.1e}"
