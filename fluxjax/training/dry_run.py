"""What a run would do to its devices, without reading videos: `--config.dry_run=true`."""

import time

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from fluxjax.config.lengths import resolve_lengths
from fluxjax.models.attention_choice import plain_attention
from fluxjax.tasks.base import Plan
from fluxjax.training.collectives import collectives
from fluxjax.training.flops import count_flops
from fluxjax.training.loop import Trainer
from fluxjax.training.memory import device_memory, held_bytes, program_bytes
from fluxjax.training.topologies import memory_of


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
      FLOPs and traffic as the compiler counts them, and the time of compilation.
    """
    device = trainer.mesh.devices.flat[0]
    state = trainer.abstract_state
    parameters = state.variables()["params"]
    lines = [
        parameter_overview.get_parameter_overview(parameters, include_stats="sharding"),
        f"mesh: {dict(trainer.mesh.shape)}, {trainer.mesh.size} devices, {device.device_kind}",
        "memory on one device:",
        *(
            f"  {name:<16} {_mebibytes(held_bytes(tree)):>12}"
            for name, tree in (
                ("parameters", parameters),
                ("optimizer state", state.opt_state),
                ("moving average", state.ema),
                ("constants", trainer.abstract_constants),
            )
            if tree
        ),
    ]
    here = device in jax.local_devices()
    if (limit := device_memory() if here else memory_of(device)) is not None:
        lines.append(f"  {'there is':<16} {_mebibytes(limit):>12}")
    start = time.perf_counter()
    try:
        programs = trainer.compile_steps(check_memory=False)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return "\n".join([*lines, f"the train step does not fit: {str(error).splitlines()[0]}"])
    seconds = time.perf_counter() - start
    for plan, program in zip(trainer.task.plans(), programs, strict=True):
        flops = _flops(trainer, plan) / trainer.mesh.size
        lines += _program_lines(f"train step {plan.name}", program, flops)
        needed = program_bytes(program)
        if limit is not None and needed is not None and needed > limit:
            lines.append(f"  it does not fit: {_mebibytes(needed)} of {_mebibytes(limit)}")
    lines.append(f"compiled in {seconds:.1f} s")
    return "\n".join(lines)


def _flops(trainer: Trainer, plan: Plan) -> float:
    """Of a step on the whole batch, with attention that is counted: kernels' FLOP are not."""
    constants = (trainer.abstract_constants,) if trainer.abstract_constants else ()
    given = (trainer.abstract_state, trainer.task.batch_spec(trainer.task.config.batch_size))
    # Without their shardings: what is counted is lowered here, wherever the step will run.
    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (*given, *constants))
    step = lambda state, batch, *more: trainer.step(state, batch, plan, *more)  # noqa: E731
    with plain_attention():
        return count_flops(jax.make_jaxpr(step)(*given))


def _program_lines(name: str, program: jax.stages.Compiled, flops: float) -> list[str]:
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    needed = program_bytes(program)
    lines = [f"{name}, on one device:"]
    if memory is None:
        lines.append("  this platform does not tell its memory")
    else:
        for what, size in (
            ("state and batch", needed - memory.temp_size_in_bytes),
            ("intermediates", memory.temp_size_in_bytes),
            ("together", needed),
        ):
            lines.append(f"  {what:<16} {_mebibytes(size):>12}")
    lines.append(f"  {'computation':<16} {flops / 1e9:>12.1f} GFLOP")
    text = program.as_text()
    loops = " while(" in text  # whose bodies the compiler's own figures count once
    if "bytes accessed" in cost and not loops:
        lines.append(f"  {'read and written':<16} {_mebibytes(cost['bytes accessed']):>12}")
    if cost.get("optimal_seconds", 0) > 0 and not loops:  # negative where the compiler cannot tell
        lines.append(
            f"  {'at best':<16} {cost['optimal_seconds'] * 1e3:>12.2f} ms, says the compiler"
        )
    for kind, traffic in sorted(collectives(text).items()):
        lines.append(f"  {kind:<16} {_mebibytes(traffic.bytes):>12} in {traffic.count}")
    return lines


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.2f} MiB"
