"""Whether the videos that a source names are there: a look at a few of them, before a run."""

import logging

import numpy as np

from data_pipelines.sources.records import Catalog
from data_pipelines.sources.rows import some

log = logging.getLogger(__name__)

LOOKED_AT = 32  # videos, evenly spaced


def check_files(catalog: Catalog, key: str, source: str, root: str) -> None:
    """Refuses a source none of whose videos is there; says so where some are not.

    Asks the file system for `LOOKED_AT` videos at most.

    Args:
      catalog: of the source.
      key: of the config that names it.
      source: its value.
      root: that is put before relative paths.

    Raises:
      ValueError: naming the root, and the first path that was looked for.
      OSError: if another file system does not answer.
    """
    few = some(catalog, LOOKED_AT)
    gone = np.flatnonzero([not few.has_file(index) for index in range(len(few))])
    if not len(gone):
        return
    first = few.name(int(gone[0]))
    if len(gone) == len(few):
        raise ValueError(
            f"config.{key}={source!r}: none of the {len(few)} videos that were looked for is "
            f"there, the first is {first}; relative paths begin at config.data.root (--root), "
            f"which is {root!r}"
        )
    log.warning(
        "config.%s=%r: of %d videos that were looked for %d are not there, the first is %s",
        key, source, len(few), len(gone), first,
    )  # fmt: skip
