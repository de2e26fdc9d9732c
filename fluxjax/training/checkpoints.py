"""Checkpoints of the train state through Orbax: keep the last N, resume at the exact step."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp


class Checkpoints:
    """Saves and restores train states under `workdir/checkpoints`.

    Saving runs in the background; a step counts as saved once Orbax has renamed its folder, so a
    kill in mid-save leaves the previous checkpoint as the latest.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int):
        """Opens (and creates) the folder; keeps the newest `keep` checkpoints."""
        self.directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self.directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """Number of the newest finished checkpoint, None without any."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts saving; a step that is saved already is left as it is."""
        if step != self._manager.latest_step():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, step: int, abstract_state: Any) -> Any:
        """Reads a checkpoint into the shapes, dtypes and shardings of `abstract_state`.

        Raises:
          ValueError: if the checkpoint's tree is another than the state's, naming the remedy.
        """
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint of step {step} in {self.directory} does not fit this config's "
                f"model or optimizer; use another --workdir or the config it was made with. "
                f"Orbax says: {error}"
            ) from error

    def close(self) -> None:
        """Waits for running saves."""
        self._manager.wait_until_finished()
        self._manager.close()
