"""Checkpoints of the train state: written by Orbax, verified by a manifest, the last N kept."""

import concurrent.futures
import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from fluxjax.checkpoints import manifest

log = logging.getLogger(__name__)

STATE = "state"
_SCRATCH = "saving-"
_DAMAGED = "damaged-"
_NONE, _REFUSED = -1, -2  # in the place of a step
_SHOWN = 8  # differences named in one message


class CheckpointError(OSError):
    """A checkpoint cannot be written, or none can be read."""


class Checkpoints:
    """Saves and restores train states under `workdir/checkpoints`.

    CHECKPOINTS/STEP/state/         the arrays, by Orbax
    CHECKPOINTS/STEP/manifest.json  see `fluxjax.checkpoints.manifest`
    CHECKPOINTS/saving-STEP/        being written, or deleted; a rename makes it a checkpoint
    CHECKPOINTS/damaged-STEP/       one that did not pass verification

    Saving runs in the background. Whenever the process is killed, the folders with a number for a
    name are whole. One process writes to a workdir at a time (`fluxjax.training.lock`).
    """

    def __init__(
        self, workdir: str | pathlib.Path, keep: int, config: Mapping[str, Any] | None = None
    ):
        """Opens (and creates) the folder, and removes what a killed run left half written.

        Args:
          workdir: of the run.
          keep: how many checkpoints to keep, the newest.
          config: stored in the manifests, as JSON values.
        """
        self.directory = folder_of(workdir)
        self._keep, self._config = keep, config
        self._first = jax.process_index() == 0
        self._checkpointer = ocp.StandardCheckpointer()
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "commit")
        self._pending: concurrent.futures.Future | None = None
        self.directory.mkdir(parents=True, exist_ok=True)  # each process lists it
        if self._first:
            for left in sorted(self.directory.glob(f"{_SCRATCH}*")):
                log.warning("removing %s, which a run that died left unfinished", left)
                shutil.rmtree(left)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Numbers of the finished checkpoints, the newest first; not verified."""
        return finished_steps(self.directory)

    def latest_step(self) -> int | None:
        """Number of the newest checkpoint, finished or being finished; None without any."""
        self.wait()
        return next(iter(self.steps()), None)

    def save(self, step: int, state: Any) -> None:
        """Starts saving, once the save before is finished; an existing step is left as it is.

        Raises:
          CheckpointError: if the save before this one could not be written.
        """
        self.wait()
        if step in self.steps():
            return
        scratch = self.directory / f"{_SCRATCH}{step}"
        try:
            if self._first:
                scratch.mkdir()
            self._checkpointer.save(scratch / STATE, state)
        except Exception as error:
            raise self._failed(step, error) from error
        # Names and shapes alone: the next step donates the arrays.
        tree = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
        self._pending = self._pool.submit(self._commit, step, scratch, tree)

    def _commit(self, step: int, scratch: pathlib.Path, tree: Any) -> None:
        """Waits for the arrays, writes the manifest, and gives the folder its name."""
        try:
            self._checkpointer.wait_until_finished()
            if not self._first:
                return
            manifest.write(scratch, tree, step=step, config=self._config)
            scratch.rename(self.directory / str(step))
        except Exception as error:
            raise self._failed(step, error) from error
        for old in self.steps()[self._keep :]:
            half = self.directory / f"{_SCRATCH}{old}"  # no longer a checkpoint, killed or not
            (self.directory / str(old)).rename(half)
            shutil.rmtree(half)

    def _failed(self, step: int, error: Exception) -> CheckpointError:
        shutil.rmtree(self.directory / f"{_SCRATCH}{step}", ignore_errors=True)
        left = ", ".join(map(str, self.steps())) or "none"
        return CheckpointError(
            f"the checkpoint of step {step} cannot be written to {self.directory} (disk full, "
            f"or read-only?): {_first_line(error)}. Older checkpoints, untouched: {left}"
        )

    def wait(self) -> None:
        """Waits for a running save.

        Raises:
          CheckpointError: if it failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore_newest(self, abstract_state: Any) -> Any:
        """The newest checkpoint whose every bit is as it was written; None without checkpoints.

        Damaged ones are named in the log, passed over, and renamed so that their steps can be
        saved again.

        Args:
          abstract_state: shapes, dtypes and shardings to restore to. The devices may be others
            than those that saved.

        Raises:
          CheckpointError: if all checkpoints are damaged.
          ValueError: if a sound one is of another tree, naming what differs and the remedy.
        """
        # The first process chooses: the others may see its folder change.
        step, damaged, problem = _NONE, [], None
        if self._first:
            try:
                step, damaged = self._newest_whole(abstract_state)
            except (CheckpointError, ValueError) as error:
                step, problem = _REFUSED, error
        step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
        if problem is not None:
            raise problem
        if step == _REFUSED:
            raise CheckpointError("the first process cannot resume; its log says why")
        if step == _NONE:
            return None
        state = self._checkpointer.restore(self.directory / str(step) / STATE, abstract_state)
        self._set_aside(damaged)
        log.info("resuming at step %d of %s", step, self.directory)
        return state

    def _newest_whole(self, abstract_state: Any) -> tuple[int, list[int]]:
        """The newest step that passes verification, or _NONE, and the damaged newer ones."""
        damaged, reasons = [], []
        for step in self.steps():
            try:
                record = manifest.verify(self.directory / str(step))
            except manifest.DamagedError as error:
                log.error("%s; trying an older checkpoint", error)
                damaged.append(step)
                reasons.append(f"  {error}")
                continue
            check_fits(self.directory.parent, step, record, abstract_state)
            return step, damaged
        if damaged:
            raise CheckpointError(
                f"no checkpoint in {self.directory} is whole; restore one from a backup, or use "
                "another --workdir to start anew:\n" + "\n".join(reasons)
            )
        return _NONE, damaged

    def _set_aside(self, damaged: list[int]) -> None:
        for step in damaged:
            target = self.directory / f"{_DAMAGED}{step}"
            shutil.rmtree(target, ignore_errors=True)
            (self.directory / str(step)).rename(target)
            log.error("kept the damaged checkpoint of step %d as %s", step, target)

    def close(self) -> None:
        """Waits for a running save; raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()
            self._checkpointer.close()


def newest_manifest(workdir: str | pathlib.Path) -> tuple[int, dict[str, Any]] | None:
    """(step, manifest) of the newest checkpoint with a sound one; the files are not compared."""
    directory = folder_of(workdir)
    for step in finished_steps(directory) if directory.is_dir() else ():
        try:
            return step, manifest.read(directory / str(step))
        except manifest.DamagedError:
            continue  # resuming says so, once it has read all of it
    return None


def check_fits(
    workdir: str | pathlib.Path, step: int, record: Mapping[str, Any], abstract_state: Any
) -> None:
    """Raises ValueError if a checkpoint of this manifest is of another tree than the state.

    Names what differs, and the remedy.
    """
    if not (problems := manifest.tree_problems(record["tree"], abstract_state)):
        return
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN]) + more
    raise ValueError(
        f"the checkpoint of step {step} in {folder_of(workdir)} does not fit this config's model "
        f"or optimizer; use another --workdir or the config it was made with:{listed}"
    )


def folder_of(workdir: str | pathlib.Path) -> pathlib.Path:
    """Where a run's checkpoints lie."""
    return pathlib.Path(workdir).absolute() / "checkpoints"


def finished_steps(directory: pathlib.Path) -> list[int]:
    """Numbers of the finished checkpoints, the newest first."""
    names = (path.name for path in directory.iterdir() if path.is_dir())
    return sorted((int(n) for n in names if n.isascii() and n.isdigit()), reverse=True)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:400]
