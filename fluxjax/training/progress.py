"""The progress line of a training run, and its metrics."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fluxjax.training.nonfinite import FINITE, FIRST_BAD

log = logging.getLogger(__name__)

LOG_SECONDS = 30  # between progress lines of long work
COLUMNS = 102  # of a line: of 120, the log's time and the number of bad videos take the rest


class Progress:
    """Collects metrics between log points without waiting for the device in between."""

    def __init__(self, first_step: int, total_steps: int, clips_per_step: int):
        """Starts the clock at `first_step`."""
        self._total = total_steps
        self._clips = clips_per_step
        self._logged_step = first_step
        self._metrics: list[Mapping[str, jax.Array]] = []
        self._waited = 0.0
        self._logged_time = self._said = time.perf_counter()

    def add(self, metrics: Mapping[str, jax.Array], waited: float) -> None:
        """Notes one step's metrics (still on the device) and its seconds of waiting for data."""
        self._metrics.append(metrics)
        self._waited += waited
        self._break_silence()

    def _break_silence(self) -> None:
        """Logs a short line where `flush` is long in coming; waits for no device."""
        now = time.perf_counter()
        if now - self._said >= LOG_SECONDS:
            self._said = now
            log.info("step %d/%d", self._logged_step + len(self._metrics), self._total)

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
        self._said = self._logged_time
        return line, scalars | timing


def progress_line(
    step: int, total: int, scalars: Mapping[str, float], timing: Mapping[str, float]
) -> str:
    """One line: step, loss, those of its terms that there is room for, accuracies, speed, ETA.

    TensorBoard has all of them.
    """
    head = [f"step {step:>{len(str(total))}}/{total}", f"loss {scalars['loss']:.3f}"]
    if "skipped" in scalars:
        head.append(f"skipped {scalars['skipped']:.0f}")
    accuracies = {k.removeprefix("top1_"): v for k, v in scalars.items() if k.startswith("top1_")}
    by_budget = lambda item: int(item[0]) if item[0].isdigit() else 0  # noqa: E731
    accuracies = dict(sorted(accuracies.items(), key=by_budget, reverse=True))
    tail = []
    if accuracies:
        shares = "/".join(f"{100 * value:.0f}" for value in accuracies.values())
        tail.append(f"top-1 at {'/'.join(accuracies)}: {shares} %")
    tail.append(f"{timing['clips_per_second']:.1f} clips/s")
    tail.append(f"data wait {timing['data_wait']:.0%}")
    tail.append(f"ETA {duration(timing['eta_seconds'])}")
    left = COLUMNS - len(" | ".join(head + tail)) - len(" | ")
    others = ""
    for name in scalars:
        if name in ("loss", "skipped") or name.startswith("top1_"):
            continue
        text = f"{others} {name} {_short(scalars[name])}".strip()
        others = text if len(text) <= left else others
    return " | ".join(part for part in (*head, others, *tail) if part)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    seconds = round(seconds)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _short(value: Any) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.1e}"
