"""How far a long evaluation is, and when it will end."""

import logging
import time

from fluxjax.training.progress import LOG_SECONDS, duration

log = logging.getLogger(__name__)


class Progress:
    """Says how far long work is and when it will end, a line every `LOG_SECONDS`.

    Attributes:
      done: units so far.
    """

    def __init__(self, what: str, total: int):
        """Starts the clock."""
        self._what, self._total, self.done = what, total, 0
        self._start = self._logged = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._start

    def add(self, count: int) -> None:
        """Notes units that are done."""
        self.done += count
        if time.perf_counter() - self._logged <= LOG_SECONDS:
            return
        self._logged, rate = time.perf_counter(), self.done / self.seconds
        log.info(
            "%s %d of %d, %.1f a second, %s left",
            self._what, self.done, self._total, rate, duration((self._total - self.done) / rate),
        )  # fmt: skip
