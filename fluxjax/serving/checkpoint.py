"""A trained model ready to run: where checkpoints lie, and what is known of their runs."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from data_pipelines.clips.sampling import frame_sampler
from fluxjax.checkpoints.inference import load, read_architecture
from fluxjax.checkpoints.paths import local_path
from fluxjax.checkpoints.usage import Usage
from fluxjax.config.keys import import_modules
from fluxjax.serving.under_way import newest_of
from fluxjax.tokens.grids import Grid, parse_grid

log = logging.getLogger(__name__)

ASSUMED_SAMPLING = "sparse"
CONFIG = "config.json"  # in a run's folder
OF_RUN = ("model", "best")  # inference checkpoints there


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An inference checkpoint, and what is known of the run that wrote it.

    Attributes:
      folder: the checkpoint itself.
      model, variables: as `fluxjax.load` gives them.
      labels: name of each class, or None.
      usage: how it was run where it was trained, as the checkpoint says, or else the run's config;
        None where nothing is known.
      run: the training run's folder, None for a checkpoint that lies elsewhere.
      config: that run's resolved config, None without a run.
      step: of the run that it is of; None where the checkpoint does not say.
    """

    folder: pathlib.Path
    model: nn.Module
    variables: Mapping[str, Any]
    labels: tuple[str, ...] | None
    usage: Usage | None
    run: pathlib.Path | None
    config: Mapping[str, Any] | None
    step: int | None = None

    @property
    def measured(self) -> pathlib.Path:
        """Where budgets.json and its report go unless told otherwise.

        The run's folder for its own model; for any other a folder beside it, NAME_budgets, since a
        checkpoint with a file more is a damaged one.
        """
        if self.run is not None and self.folder.name != "best":
            return self.run
        return self.folder.with_name(f"{self.folder.name}_budgets")

    def sampling(self, chosen: str | None = None) -> str:
        """Name of the frame sampler: `chosen`, or the one that the model was evaluated with.

        Where nothing is known it is assumed, and said.

        Raises:
          ValueError: if there is no sampler of that name.
        """
        if chosen is None and self.usage is None:
            log.warning(
                "%s does not say how frames were chosen in training; assuming --sampling=%s",
                self.folder, ASSUMED_SAMPLING,
            )  # fmt: skip
        name = chosen or (ASSUMED_SAMPLING if self.usage is None else self.usage.sampling)
        try:
            frame_sampler(name)
        except ValueError as error:
            raise ValueError(f"--sampling={name}: {error}") from error
        return name

    def views(self, clips: int | None = None, crops: int | None = None) -> tuple[int, int]:
        """(temporal views, spatial views): those given, else those of the evaluation, else one."""
        known = (1, 1) if self.usage is None else (self.usage.clips, self.usage.crops)
        return clips or known[0], crops or known[1]

    def default_grid(self) -> Grid:
        """The first grid that the model was evaluated on.

        Raises:
          ValueError: where nothing is known of that.
        """
        if self.usage is None:
            raise ValueError(
                f"{self.folder} does not say which sampling grid it was trained for; "
                "pass --grid FRAMESxPIXELS, e.g. --grid 8x224"
            )
        return parse_grid(self.usage.grids[0])


def open_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads an inference checkpoint, or that of a training run (RUN, RUN/model or RUN/best).

    A run that is under way, or was stopped, is read at its newest checkpoint.

    Raises:
      FileNotFoundError: if there is no such folder.
      WeightsError: if it holds no checkpoint, or a damaged one.
    """
    folder, run = pathlib.Path(local_path(path)), None
    if (folder / "model").is_dir():
        folder = folder / "model"
    if (folder.parent / CONFIG).is_file() and folder.name in OF_RUN:
        run = folder.parent
    if run is None and (folder / CONFIG).is_file():
        return _under_way(folder)
    config = None
    if run is not None:
        config = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        import_modules(config.get("imports", ()))  # which know the model's class
    architecture = read_architecture(folder)
    model, variables = load(folder)
    usage = architecture.usage
    if run is not None:
        usage = Usage.of_run(config) if usage is None else usage
    return Checkpoint(
        folder, model, variables, architecture.labels, usage, run, config, architecture.step
    )


def _under_way(run: pathlib.Path) -> Checkpoint:
    """A run that has no model yet, at its newest checkpoint."""
    config = json.loads((run / CONFIG).read_text(encoding="utf-8"))
    found = newest_of(run, run / CONFIG)
    log.info("%s has not ended: this is its model after step %d", run, found.step)
    folder = run / "checkpoints" / str(found.step)
    return Checkpoint(
        folder, found.model, found.variables, found.labels, Usage.of_run(config), run, config,
        found.step,
    )  # fmt: skip
