"""Time limits of decoding: one that a decoder looks at, and one for calls that never return."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from data_pipelines.reading.errors import VideoTimeoutError

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""Beyond a deadline: time for the decoder to notice it, between two packets, and to clean up."""


class Deadline:
    """A moment after which a video counts as unreadable."""

    def __init__(self, name: str, seconds: float | None):
        """`seconds` from now; None for never."""
        self._name, self._seconds = name, seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def extend(self, seconds: float) -> None:
        """Moves the moment: what took so long was not the reading."""
        self._end = None if self._end is None else self._end + seconds

    def check(self) -> None:
        """Raises `VideoTimeoutError` once the moment has passed."""
        if self._end is not None and time.monotonic() > self._end:
            raise VideoTimeoutError(self._name, f"took longer than {self._seconds:g} s to decode")


def limited(function: Callable[[], T], seconds: float | None, name: str) -> T:
    """`function()`, which is left behind if it does not return in time.

    A read of a dead network mount blocks inside the kernel, where nothing can end it: the thread
    that hangs there is given up and dies with the process. Decoding itself ends at its `Deadline`.

    Args:
      function: reads a video.
      seconds: the deadline it keeps to; it is given up `GRACE_SECONDS` later. None: no limit.
      name: of the video.

    Raises:
      VideoTimeoutError: if the function has not returned by then.
    """
    if seconds is None:
        return function()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name=f"read {name}").start()
    try:
        return future.result(seconds + GRACE_SECONDS)
    except TimeoutError:
        if future.done():  # the function itself raised it
            raise
        raise VideoTimeoutError(
            name, f"did not answer within {seconds + GRACE_SECONDS:g} s and was given up"
        ) from None
