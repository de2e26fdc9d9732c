"""Trains and evaluates: python -m fluxjax.main --config configs/fluxvit_s.py [--workdir DIR]."""

import contextlib
import datetime
import functools
import logging
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from data_pipelines.reading.errors import VideoError
from fluxjax.checkpoints.inference import save
from fluxjax.checkpoints.replacing import recover
from fluxjax.checkpoints.training import Checkpoints
from fluxjax.checkpoints.usage import Usage
from fluxjax.config import stored as stored_config
from fluxjax.config.command_line import parse_flags
from fluxjax.config.keys import check_config, provisional_task
from fluxjax.config.lengths import resolve_lengths
from fluxjax.config.paths import expand_paths
from fluxjax.config.ranges import check_devices, get
from fluxjax.evaluation.best import Best, more_is_better
from fluxjax.evaluation.registry import make_evaluators
from fluxjax.evaluation.writer import (
    format_table,
    scalars_of,
    write_pictures,
    write_scalars,
    write_tables,
)
from fluxjax.logs import only_warnings, set_up_logging
from fluxjax.pretrained.sources import fetch, is_remote
from fluxjax.tasks import create_task
from fluxjax.training import hosts
from fluxjax.training.agreement import Agreement
from fluxjax.training.batches import warn_of_repeats
from fluxjax.training.devices import devices_in_words
from fluxjax.training.dry_run import dry_run, look_at_data
from fluxjax.training.feature_cache import CachedData
from fluxjax.training.lock import locked
from fluxjax.training.loop import Trainer, train
from fluxjax.training.mesh import batch_shards, make_mesh
from fluxjax.training.metric_writers import Writers, check_wandb
from fluxjax.training.nonfinite import NonFiniteError
from fluxjax.training.profiling import StepProfiler
from fluxjax.training.signals import EXIT_STOPPED, Stopped, StopSignals
from fluxjax.training.state import TrainState
from fluxjax.training.topologies import open_no_accelerator, topology_devices
from fluxjax.training.workdir import BEST, CONFIG, MODEL, PRETRAIN, check_folder, check_resume
from fluxjax.version import __version__

if TYPE_CHECKING:
    from data_pipelines.from_config import VideoData

log = logging.getLogger("fluxjax.main")

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Recipe, e.g. configs/fluxvit_s.py or configs/fluxvit_s.py:k400, or the config.json in the "
    "workdir of a run to repeat.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of checkpoints, logs and results; a run found there is resumed. "
    "Default: a dated folder under ./runs.",
)
_CONFIG_HELP = flags.DEFINE_boolean(
    "config_help", False, "List every key with its value in --config, or its default, and end."
)
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed", "auto", hosts.MODES, "Join several processes: TPU pods, Slurm and Open MPI are "
    "detected; elsewhere give the next three.",
)  # fmt: skip
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains by a config, resuming what `workdir` holds, then evaluates and writes the table.

    Raises:
      ValueError: on a config that cannot work, before anything is compiled.
      WorkdirInUseError: if another run writes to `workdir`.
      Stopped: on SIGTERM or SIGINT, once the last finished step is saved.
    """
    from data_pipelines.from_config import VideoData  # needs PyAV, and TensorFlow for tf.data

    _fetch_start(config)
    expand_paths(config)
    check_config(config)
    check_wandb(config)
    if config.compile_cache is not None:
        jax.config.update("jax_compilation_cache_dir", config.compile_cache)
    mesh = make_mesh(config.mesh, _topology(config))
    check_devices(config, batch_shards(mesh))
    if config.checkpoint.best:
        more_is_better(config, provisional_task(config))
    if config.dry_run:
        look_at_data(config)
        print(dry_run(Trainer.create(create_task(config), mesh)), flush=True)
        return
    with hosts.first_goes_ahead(f"corpus of {workdir.name}"):  # the demo's is made on first use
        splits = ("train", "test") if config.data.test else ("train",)
        data = VideoData.open(config, jax.process_index(), jax.process_count(), workdir, splits)
    config.num_classes = config.num_classes or data.train.num_classes or None
    resolve_lengths(config, len(data.train))
    workdir.mkdir(parents=True, exist_ok=True)
    first = jax.process_index() == 0
    with locked(workdir) if first else contextlib.nullcontext():
        task = create_task(config)
        trainer = Trainer.create(task, mesh)
        check_resume(workdir, config, trainer.abstract_state)
        if first:  # from here on the workdir is this run's
            stored_config.write(config, workdir / CONFIG)
            for folder in (MODEL, BEST):
                recover(workdir / folder)
        if config.pretrain is not None and get(config, config.pretrain_for) is None:
            model = _pretrained(config.pretrain, workdir / PRETRAIN)
            config.update_from_flattened_dict({config.pretrain_for: model})
        hosts.meet(f"data of {workdir.name}")
        warn_of_repeats(config, len(data.train))
        log.info(
            "%s: %d train and %d test videos, %d classes, %s",
            workdir, len(data.train), len(data.test or ()), config.num_classes or 0,
            task.example(),
        )  # fmt: skip
        if data.test is None:
            log.warning("config.data.test='' names no videos: nothing will be evaluated")
        _train_and_evaluate(trainer, data, workdir)
    log.info("done; checkpoints, model, logs and tables are in %s", workdir)


def _train_and_evaluate(trainer: Trainer, data: "VideoData", workdir: pathlib.Path) -> None:
    task, config, constants = trainer.task, trainer.task.config, trainer.constants
    if config.features.dir is not None:
        data = CachedData(data, task, trainer.mesh, trainer.initial_state().variables())
    evaluators = make_evaluators(task, trainer.mesh, data) if config.data.test else []
    best, scalar = None, config.checkpoint.best
    if scalar:
        best = Best(workdir / BEST, scalar, more_is_better(config, task))

    def batches(step: int):
        writer.begin(step)
        return data.train_batches(task.example(), step)

    def report(step: int, line: str, scalars: Mapping[str, float]) -> None:
        unreadable = len(data.bad.unreadable)
        bad = f" | bad {unreadable}" if unreadable else ""
        log.info("%s", line + bad)
        writer.write_scalars(step, {f"train/{name}": value for name, value in scalars.items()})

    def evaluate(step: int, state: TrainState) -> None:
        variables = {**state.eval_variables(), **constants}
        tables = [evaluator.run(variables) for evaluator in evaluators]
        write_scalars(tables, writer, step)
        write_pictures(tables, writer, step)
        if jax.process_index() == 0:
            write_tables(tables, workdir, step)
            for table in tables:
                print(f"\nAfter {step} steps, {table.title}:\n")
                print(format_table(table) + "\n", flush=True)
        if best is not None:
            scores = scalars_of(tables)
            best.offer(step, scores, lambda: store(workdir / BEST, state, scores))

    def store(folder: pathlib.Path, state: TrainState, scores: Mapping[str, float]) -> None:
        variables = hosts.whole(state.eval_variables(), trainer.mesh)
        if jax.process_index() == 0:
            labels = data.train.label_names if task.model.num_classes else None
            save(
                folder, task.model, variables, labels=labels,
                usage=Usage.of_run(config), step=int(state.step), scores=scores, overwrite=True,
            )  # fmt: skip

    with (
        contextlib.closing(Writers(workdir, config, jax.process_index() == 0)) as writer,
        Checkpoints(workdir, config.checkpoint.keep, config.to_dict()) as checkpoints,
        StopSignals(Agreement.of_this_run()).installed() as stop,
    ):
        profiler = StepProfiler(config.profile_steps, workdir)
        during = evaluate if evaluators else None
        state = train(trainer, batches, checkpoints, report, during, stop, profiler)
        store(workdir / MODEL, state, {})
        step = int(state.step)
        if evaluators:
            stop.call(functools.partial(evaluate, step, state), step)


def _topology(config: ConfigDict) -> Sequence[jax.Device] | None:
    """Devices that a dry run is for, where these are not the ones at hand."""
    if config.dry_run_topology is None:
        return None
    if not config.dry_run:
        raise ValueError(
            f"dry_run_topology={config.dry_run_topology!r} is compiled for, nothing runs there: "
            "set dry_run=true as well"
        )
    return topology_devices(config.dry_run_topology)


def _fetch_start(config: ConfigDict) -> None:
    """Puts the local path of what `config.init_from` names on the web or the hub in its place."""
    if config.init_from is not None and is_remote(config.init_from):
        config.init_from = str(fetch(config.init_from))
    if config.pretrain is not None:
        _fetch_start(config.pretrain)


def _pretrained(config: ConfigDict, workdir: pathlib.Path) -> str:
    """The model of a run that comes first: trained now, or what an earlier run has left."""
    model = workdir / MODEL
    if not model.exists():  # it appears once the run is done
        log.info("first a run of its own, in %s", workdir)
        run(config, workdir)
    return str(model)


def default_workdir(config_path: str) -> pathlib.Path:
    """./runs/<config>[_variant]-<date>-<time>; after its folder for a stored config."""
    path, _, variant = config_path.partition(":")
    if variant.endswith(".json"):
        path, variant = f"{pathlib.Path(variant).absolute().parent.name}_again", ""
    name = "_".join(part for part in (pathlib.Path(path).stem, variant) if part)
    return pathlib.Path("runs") / f"{name}-{datetime.datetime.now():%Y-%m-%d-%H%M%S}"


def main(argv: list[str]) -> None:
    """absl entry."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; options start with --")
    config_path = config_flags.get_config_filename(flags.FLAGS["config"])
    set_up_logging()
    try:
        workdir = check_folder(_WORKDIR.value) if _WORKDIR.value else default_workdir(config_path)
        if _CONFIG.value.get("dry_run_topology") is not None:
            open_no_accelerator()
        hosts.start(_DISTRIBUTED.value, _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        if jax.process_index() > 0:
            only_warnings()
        log.info("fluxjax %s on %s", __version__, devices_in_words())
        if jax.process_count() > 1 and not _WORKDIR.value:
            raise ValueError("runs of several processes need --workdir, a folder that all share")
        run(_CONFIG.value, workdir)
    except Stopped:
        log.warning(
            "stopped, everything is saved; the same command with --workdir=%s goes on", workdir
        )
        if (agreement := Agreement.of_this_run()) is not None:
            agreement.leave()
        _end(EXIT_STOPPED)
    except (ValueError, OSError, VideoError, NonFiniteError) as error:
        log.debug("traceback", exc_info=True)
        sys.exit(f"error: {error}")


def _end(status: int) -> NoReturn:
    """Ends the program now: what a signal interrupted may still run in another thread."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
