"""Reading the newest training checkpoint of a run that another process may be writing to."""

import logging
import pathlib
from typing import Any

import orbax.checkpoint as ocp

from fluxjax.checkpoints import manifest
from fluxjax.checkpoints.training import STATE, check_fits, finished_steps, folder_of

log = logging.getLogger(__name__)


def read_newest(workdir: str | pathlib.Path, abstract_state: Any) -> tuple[int, Any]:
    """(step, state) of the newest checkpoint that is whole; nothing in the run changes.

    Args:
      workdir: of the run.
      abstract_state: shapes, dtypes and shardings to restore to.

    Raises:
      FileNotFoundError: if there is no checkpoint, or none that is whole.
      ValueError: if it is of another tree, naming what differs.
    """
    directory = folder_of(workdir)
    for step in finished_steps(directory) if directory.is_dir() else ():
        try:
            record = manifest.verify(directory / str(step))
        except manifest.DamagedError as error:  # or just deleted: the run keeps the newest only
            log.warning("%s; trying an older checkpoint", error)
            continue
        check_fits(workdir, step, record, abstract_state)
        with ocp.StandardCheckpointer() as checkpointer:
            return step, checkpointer.restore(directory / str(step) / STATE, abstract_state)
    raise FileNotFoundError(
        f"{workdir} has no whole checkpoint yet; let it train until the first "
        "(config.checkpoint.every_steps)"
    )
