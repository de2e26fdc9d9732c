"""The progress of long work: a bar on a terminal, elsewhere a line of the log every 30 seconds."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30.0


@contextlib.contextmanager
def progress(total: int, unit: str, log: logging.Logger) -> Iterator[Callable[[int, str], None]]:
    """Gives the function to call as the work goes on, with (units done, what is done now).

    Lines come while one unit takes long, too, so that a log that stands still means a dead process.

    Args:
      total: units there are.
      unit: what is counted, such as "videos".
      log: where lines go if the error stream is no terminal.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(),
                   TextColumn("{task.completed}/{task.total} " + unit),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total)
            yield lambda done, what: bar.update(task, completed=done, description=what)
        return
    now, ended = (0, ""), threading.Event()

    def note(done: int, what: str) -> None:
        nonlocal now
        now = done, what

    began = time.monotonic()

    def say() -> None:
        while not ended.wait(LINE_SECONDS):
            done, what = now
            minutes = (time.monotonic() - began) / 60
            eta = f", ETA {minutes * (total - done) / done:.1f} min" if done else ""
            log.info("%s: %d of %d %s%s", what, done, total, unit, eta)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield note
    finally:
        ended.set()
        thread.join()
