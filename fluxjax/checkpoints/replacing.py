"""Folders that are replaced as a whole: whenever the process is killed, one of the two is there.

.NAME-xxxx/new  beside NAME: being written
.NAME-xxxx/old  what NAME was, between the two renames that put the new one in its place
"""

import contextlib
import logging
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def replaced(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside `directory` that takes its place unless the block raises."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        if directory.exists():
            directory.rename(old)
        try:
            new.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise
    finally:
        shutil.rmtree(scratch)


def recover(directory: pathlib.Path) -> None:
    """Ends what `replaced` was doing when it was killed; only while nobody else writes there.

    Killed between the two renames, the new folder is complete and gets its name; one that was half
    written is removed.
    """
    for scratch in sorted(directory.parent.glob(f".{directory.name}-*")):
        if (scratch / "old").is_dir() and not directory.exists():
            (scratch / "new").rename(directory)
            log.warning("%s: what a run that died had just replaced is in its place", directory)
        else:
            log.warning("removing %s, which a run that died left unfinished", scratch)
        shutil.rmtree(scratch)
