"""Signals end a run with a checkpoint; SIGTERM or SIGINT for the second time end it at once.

The main thread of a training program is often inside C++ (compiling, waiting for a batch), where
Python runs no signal handler. So the handler of the C library wakes a thread of its own, and what
may take longer than a step runs through `StopSignals.call`, which the wish to stop interrupts.
"""

import concurrent.futures
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from fluxjax.training.agreement import Agreement

log = logging.getLogger(__name__)

EXIT_STOPPED = 75
"""Exit status of a run that a signal ended with its state saved (EX_TEMPFAIL: try again)."""

INSISTING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end the process at once when one of them comes for the second time."""

SIGNALS = (*INSISTING, signal.SIGUSR1, signal.SIGHUP)
"""Signals that stop a run. The last two announce an end, a time limit or a closed terminal, and
come more than once or before a SIGTERM: they do not hurry what the first one has begun."""

T = TypeVar("T")


class Stopped(Exception):
    """The run was asked to stop, and the time has come."""


class StopSignals:
    """The wish to stop, and the step that all processes stop after.

    Attributes:
      abandoned: whether `call` left a function running. A program that exits the usual way would
        then wait for that thread, or crash in it: end it with `os._exit`.
    """

    def __init__(self, agreement: Agreement | None = None):
        """`agreement`: with the other processes of the run; None where there are none."""
        self.abandoned = False
        self._agreement = agreement
        self._installed = False
        self._requested = threading.Event()
        self._wake = threading.Event()  # set with _requested, and when a called function ends
        self._step: int | None = None

    def request(self) -> None:
        """Asks to stop, as the first signal does."""
        self._requested.set()
        self._wake.set()

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopSignals"]:
        """Handles `SIGNALS` while the context is open; of the main thread only.

        A SIGHUP that is ignored stays so: that is how nohup starts a program.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)  # asked for by set_wakeup_fd
        handled = [
            n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN
        ]
        before = {number: signal.signal(number, lambda *_: None) for number in handled}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._watch, args=(reading,), daemon=True)
        watcher.start()
        if self._agreement is not None:
            self._agreement.listen(self.request)
        self._installed = True
        try:
            yield self
        finally:
            self._installed = False
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._agreement is not None:
                self._agreement.close()
            os.close(writing)  # ends the watcher
            watcher.join()
            os.close(reading)

    def _watch(self, reading: int) -> None:
        """Reads the numbers of the signals, as they come."""
        insisted = False
        while received := os.read(reading, 1):
            number = received[0]
            if number not in SIGNALS:
                continue
            name = signal.Signals(number).name
            if number in INSISTING and insisted:
                os.write(2, f"{name} again: ending at once, nothing more is saved\n".encode())
                os._exit(128 + number)
            insisted |= number in INSISTING
            if not self._requested.is_set():
                log.warning("%s: stopping with a checkpoint; SIGTERM or SIGINT %sends at once",
                            name, "again " if insisted else "twice ")  # fmt: skip
            self.request()

    def due(self, step: int) -> bool:
        """Whether to stop now that `step` steps are begun; asks the other processes once."""
        if not self._requested.is_set():
            return False
        if self._step is None:
            self._step = step if self._agreement is None else self._agreement.last_step(step)
        return step >= self._step

    def call(self, function: Callable[[], T], step: int) -> T:
        """`function()`, in another thread so that a signal need not wait for it.

        Args:
          function: must not change the state that is saved on stopping.
          step: steps begun so far.

        Raises:
          Stopped: as soon as stopping is due. The function may go on running.
        """
        if self.due(step):
            raise Stopped
        if not self._installed:
            return function()
        self._wake.clear()
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        future.add_done_callback(lambda _: self._wake.set())
        threading.Thread(target=_run, args=(function, future), daemon=True).start()
        while not future.done():
            if self.due(step):
                self.abandoned = True
                raise Stopped
            if self._requested.is_set():  # the others are ahead: their step needs this result
                break
            self._wake.wait()
            self._wake.clear()
        return future.result()


def _run(function: Callable[[], T], future: "concurrent.futures.Future[T]") -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
