"""What a run would do to its devices, without reading videos: `--config.dry_run=true`."""

import time

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from fluxjax.config.lengths import resolve_lengths
from fluxjax.training.loop import Trainer
from fluxjax.training.memory import device_memory, held_bytes


def look_at_data(config: ConfigDict) -> None:
    """Opens the lists and folders of a config, and takes from them what only they say.

    Data sets by name stay closed: opening one may mean making or fetching it.

    Args:
      config: filled in place.

    Raises:
      ValueError: on a source that cannot be used; without one, naming what must be given.
      FileNotFoundError: if a list file does not exist.
    """
    from data_pipelines.from_config import VideoData, opens_at_once

    data, videos = config.data, 1
    if opens_at_once(data.train):
        splits = ("train", "test") if data.test and opens_at_once(data.test) else ("train",)
        train = VideoData.open(config, splits=splits).train
        config.num_classes, videos = config.num_classes or train.num_classes or None, len(train)
    elif config.total_steps is None:
        raise ValueError(
            f"a dry run does not open data.train={data.train!r}, so what config.epochs="
            f"{config.epochs:g} come to is not known: set config.total_steps in its place"
        )
    if config.num_classes is None:
        raise ValueError(f"a dry run does not open data.train={data.train!r}: set "
                         "config.num_classes")  # fmt: skip
    resolve_lengths(config, videos)


def dry_run(trainer: Trainer) -> str:
    """Compiles the train steps and describes them.

    Returns:
      A table of the parameters with their shardings (an axis of the array under each mesh axis's
      name, () is whole on every device), the memory of state and step on one device, the step's
      FLOPs as the compiler counts them, and the time of compilation.
    """
    state = trainer.abstract_state
    parameters = state.variables()["params"]
    lines = [
        parameter_overview.get_parameter_overview(parameters, include_stats="sharding"),
        f"mesh: {dict(trainer.mesh.shape)}, {trainer.mesh.size} devices",
        "memory on one device:",
        *(
            f"  {name:<16} {_mebibytes(held_bytes(tree)):>12}"
            for name, tree in (
                ("parameters", parameters),
                ("optimizer state", state.opt_state),
                ("moving average", state.ema),
            )
            if tree is not None
        ),
    ]
    if (limit := device_memory()) is not None:
        lines.append(f"  {'there is':<16} {_mebibytes(limit):>12}")
    start = time.perf_counter()
    programs = trainer.compile_steps(check_memory=False)
    seconds = time.perf_counter() - start
    for plan, program in zip(trainer.task.plans(), programs, strict=True):
        lines += _program_lines(f"train step {plan.name}", program)
    lines.append(f"compiled in {seconds:.1f} s")
    return "\n".join(lines)


def _program_lines(name: str, program: jax.stages.Compiled) -> list[str]:
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    lines = [f"{name}, on one device:"]
    if memory is None:
        lines.append("  this platform does not tell its memory")
    else:
        # Donated: the new state takes the place of the old one.
        held = memory.argument_size_in_bytes + memory.output_size_in_bytes
        held -= memory.alias_size_in_bytes
        for what, size in (
            ("state and batch", held),
            ("intermediates", memory.temp_size_in_bytes),
            ("together", held + memory.temp_size_in_bytes),
        ):
            lines.append(f"  {what:<16} {_mebibytes(size):>12}")
    if "flops" in cost:
        lines.append(f"  {'computation':<16} {cost['flops'] / 1e9:>8.1f} GFLOP")
    return lines


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"
