"""One writer a workdir: a lock that ends with the process that holds it."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)

_NAME = "lock.json"


class WorkdirInUseError(OSError):
    """Another run writes to the workdir."""


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds the workdir for this process while the context is open.

    The operating system gives the lock back when its holder ends, however that happens: a file
    that names a holder without a lock on it is stale, which is logged. Over NFS this needs the
    server's locks, which are on by default.

    Raises:
      WorkdirInUseError: if another process holds it, naming its host and pid.
    """
    path = pathlib.Path(workdir) / _NAME
    # Never deleted: a third process could lock the old file while a fourth makes a new one.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, path)
        before = _holder(descriptor)
        if before:
            log.warning(
                "%s was left by %s, which ended without a word; this run takes over", path, before
            )
        _write(descriptor, _myself())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: pathlib.Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            log.warning(
                "the file system of %s has no locks: nothing stops a second run there", path
            )
            return
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise WorkdirInUseError(
            f"{path.parent} is in use by {_holder(descriptor) or 'another process'}; stop that "
            "run, wait for its end or choose another --workdir"
        ) from None


def _myself() -> dict[str, Any]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": now}


def _write(descriptor: int, record: dict[str, Any]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(record).encode() + b"\n", 0)


def _holder(descriptor: int) -> str:
    """What the file says of its writer; empty after an orderly end."""
    text = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
    if not text:
        return ""
    try:
        record = json.loads(text)
        return f"the run with pid {record['pid']} on {record['host']} since {record['since']}"
    except (ValueError, KeyError, TypeError):
        return f"a run that signed as {text[:100]!r}"
