"""Ahead-of-time compilation with a message, and the count of what was compiled."""

import collections
import logging
import time
from collections.abc import Callable
from typing import Any

import jax

log = logging.getLogger(__name__)

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"

counts: collections.Counter[str] = collections.Counter()
"""Programs compiled by `compile_program` in this process, by name."""


def compile_program(name: str, function: Callable, *args: Any) -> Callable:
    """Compiles a jitted function for abstract arguments and says how long it took.

    The result refuses other shapes, so that a program can never be compiled a second time
    unnoticed.

    Args:
      name: shown in the log and counted in `counts`.
      function: made by `jax.jit`.
      *args: arrays or `jax.ShapeDtypeStruct`s.
    """
    log.info("compiling %s", name)
    start = time.perf_counter()
    compiled = function.lower(*args).compile()
    counts[name] += 1
    log.info("compiled %s in %.1f s", name, time.perf_counter() - start)
    return compiled


class CompileCounter:
    """Counts every XLA compilation of the process while the context is open."""

    def __init__(self):
        self.count = 0

    def _listen(self, event: str, duration: float, **_: Any) -> None:
        if event == COMPILE_EVENT:
            self.count += 1

    def __enter__(self) -> "CompileCounter":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: Any) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)
