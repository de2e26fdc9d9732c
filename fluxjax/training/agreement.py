"""Processes of one run agree on the step they stop after, through JAX's coordination service.

No device takes part: at the time, some of them may wait for a collective that others have not
begun. Each process says how many steps it has begun; the largest number is the answer, since that
step's collectives need all processes.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import jax

from fluxjax.training.hosts import coordination_client

log = logging.getLogger(__name__)

_PREFIX = "fluxjax/stop"
_WAIT_MS = 300_000  # for a process in a long compilation or evaluation to answer
_POLL_SECONDS = 1.0
_LEAVE_MS = 60_000


class Agreement:
    """One process's part in the decision when to stop."""

    def __init__(self, client: Any, process: int, processes: int):
        """`client`: of `jax.distributed`'s coordination service."""
        self._client, self._process, self._processes = client, process, processes
        self._closed, self._listener = threading.Event(), None

    @classmethod
    def of_this_run(cls) -> "Agreement | None":
        """Of all processes of `jax.distributed`; None in a program of one process."""
        if jax.process_count() == 1:
            return None
        return cls(coordination_client(), jax.process_index(), jax.process_count())

    def listen(self, request: Callable[[], None]) -> None:
        """Calls `request` once another process has been asked to stop; until `close`."""
        self._listener = threading.Thread(target=self._listen, args=(request,), daemon=True)
        self._listener.start()

    def _listen(self, request: Callable[[], None]) -> None:
        # Looked at in turns: a thread that waits inside the client would crash the exit.
        while not self._closed.wait(_POLL_SECONDS):
            try:
                by = self._client.key_value_try_get(f"{_PREFIX}/by")
            except jax.errors.JaxRuntimeError as error:
                if "NOT_FOUND" in str(error):
                    continue
                return  # the service has shut down: the run is over
            if by != str(self._process):
                log.warning("process %s was asked to stop, so all processes do", by)
                request()
            return

    def close(self) -> None:
        """Ends listening."""
        self._closed.set()
        if self._listener is not None:
            self._listener.join()

    def last_step(self, begun: int) -> int:
        """The step after which all processes stop; waits for their answers.

        Args:
          begun: steps this process has begun; it must be able to go on to a later one.

        Raises:
          jax.errors.JaxRuntimeError: if a process does not answer.
        """
        client = self._client
        client.key_value_set(f"{_PREFIX}/by", str(self._process), allow_overwrite=True)
        client.key_value_set(f"{_PREFIX}/begun/{self._process}", str(begun))
        keys = (f"{_PREFIX}/begun/{process}" for process in range(self._processes))
        return max(int(client.blocking_key_value_get(key, _WAIT_MS)) for key in keys)

    def leave(self) -> None:
        """Waits until all processes are done: the end of one would look like a crash to others."""
        try:
            self._client.wait_at_barrier(f"{_PREFIX}/left", _LEAVE_MS)
        except jax.errors.JaxRuntimeError as error:
            log.warning("other processes have not ended in order: %s", error)
