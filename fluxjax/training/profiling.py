"""A trace of some train steps, for TensorBoard's profile plugin."""

import logging
import pathlib
from collections.abc import Sequence

import jax

log = logging.getLogger(__name__)


class StepProfiler:
    """Traces steps first .. last, counted from 1 like in the log; () traces nothing.

    A resumed run that is already past `first` traces nothing either.
    """

    def __init__(self, steps: Sequence[int], directory: str | pathlib.Path):
        """Traces go to `directory`; TensorBoard (with its profile plugin) opens it."""
        self._first, self._last = tuple(steps) or (0, 0)
        self._directory, self._running = directory, False

    def before(self, step: int) -> None:
        """To be called before step `step` is started."""
        if self._first and step == self._first:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def after(self, step: int, result: object) -> None:
        """To be called once step `step` is dispatched; waits for the last one's `result`."""
        if self._running and step >= self._last:
            jax.block_until_ready(result)  # else the trace would end before the device does
            self.close()
            log.info("trace of steps %d to %d is in %s", self._first, step, self._directory)

    def close(self) -> None:
        """Ends a trace that still runs."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
