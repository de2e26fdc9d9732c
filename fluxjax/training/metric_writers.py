"""Where the scalars of a run go: TensorBoard, log.jsonl and, where a config asks for it, W&B."""

import importlib.util
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from data_pipelines.quiet_tensorflow import tensorflow
from fluxjax.training.log_files import LOG, LogFile

WANDB_ID = "wandb_id.txt"  # in the workdir: a run that is resumed there is the same one there


class Writers:
    """All writers of a run; on other processes than the first there are none.

    Attributes:
      log_file: log.jsonl; None where nothing is written.
    """

    def __init__(self, workdir: pathlib.Path, config: ConfigDict, first: bool):
        """Opens them.

        Args:
          workdir: of the run; must exist.
          config: `config.wandb` names a project of Weights & Biases, or "".
          first: whether this is the process that writes.
        """
        tensorflow()  # what clu writes with: only once a run starts
        from clu import metric_writers

        self.log_file = LogFile(workdir / LOG) if first else None
        self._tensorboard = metric_writers.SummaryWriter(str(workdir)) if first else None
        writers = [self._tensorboard, self.log_file] if first else []
        if first and config.wandb:
            writers.append(WandbWriter(workdir, config))
        self._writers = metric_writers.MultiWriter(writers)

    def begin(self, step: int) -> None:
        """The training goes on after `step`."""
        if self.log_file is not None:
            self.log_file.begin(step)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes the values of a step."""
        self._writers.write_scalars(step, scalars)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Pictures [N, H, W, 3] uint8 of a step, to TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.write_images(step, images)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._writers.close()


class WandbWriter:
    """Scalars to Weights & Biases; a CLU metric writer of scalars."""

    def __init__(self, workdir: pathlib.Path, config: ConfigDict):
        """Begins a run of the project `config.wandb`, or goes on with the workdir's.

        Raises:
          ValueError: if W&B cannot be reached or knows nobody here; says what to do.
        """
        import wandb

        known = workdir / WANDB_ID
        if not known.exists():
            known.write_text(secrets.token_hex(8) + "\n", encoding="utf-8")
        try:
            self._run = wandb.init(
                project=config.wandb,
                id=known.read_text(encoding="utf-8").strip(),
                name=workdir.name,
                dir=str(workdir),
                config=config.to_dict(),
                resume="allow",
            )
        except wandb.Error as error:
            raise ValueError(
                f"config.wandb={config.wandb!r}: {error}; run `wandb login`, or set "
                "WANDB_MODE=offline and `wandb sync` later"
            ) from error

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Sends the values of a step; W&B leaves out steps that it had before."""
        self._run.log({name: float(value) for name, value in scalars.items()}, step=step)

    def flush(self) -> None:
        """W&B sends by itself."""

    def close(self) -> None:
        """Waits until everything is sent."""
        self._run.finish()


def check_wandb(config: ConfigDict) -> None:
    """Raises ValueError if a config asks for Weights & Biases and it is not installed."""
    if config.pretrain is not None:
        check_wandb(config.pretrain)
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise ValueError(
            f"config.wandb={config.wandb!r} needs the package wandb: pip install 'fluxjax[wandb]', "
            "or leave it out; scalars are in log.jsonl and TensorBoard's files as well"
        )
