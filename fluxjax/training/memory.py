"""Whether the train steps fit into a device's memory: asked before a run, not found out in it."""

import logging
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

log = logging.getLogger(__name__)

# Before compilation only what is far beyond the memory is refused: operations that the compiler
# fuses never write what the estimate counts. On CPU the compiled steps of the demos took 1.0 to 1.7
# times their estimate (3.7 with remat, which XLA:CPU undoes), so it errs on the low side there.
FAR_BEYOND = 2.0
NEARLY = 0.9  # of the memory, from which on a compiled step gives a warning


def device_memory() -> int | None:
    """Bytes that one device can use; None where the platform does not tell.

    On CPU it is what the machine has free, shared by the devices that it simulates.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    free = [size for size in (_free_on_machine(), _free_in_container()) if size is not None]
    return min(free) // jax.local_device_count() if free else None


def check_estimate(name: str, traced: jax.stages.Traced, arguments: Any, shards: int) -> None:
    """Refuses a step that cannot fit, before the minutes that its compilation takes.

    Args:
      name: of the step.
      traced: of the step, for the whole batch.
      arguments: its state and batch, shapes with shardings.
      shards: parts that the batch is cut into.

    Raises:
      ValueError: with the numbers and what to lower.
    """
    limit = device_memory()
    held = held_bytes(arguments)
    needed = held + peak_bytes(traced.jaxpr.jaxpr) // shards
    if limit is not None and needed > FAR_BEYOND * limit:
        raise ValueError(_too_much(f"{name} needs about", needed, held, limit))


def check_program(name: str, program: jax.stages.Compiled, arguments: Any) -> None:
    """Refuses a compiled step that does not fit; warns where it only just does.

    Raises:
      ValueError: with the numbers and what to lower.
    """
    limit, needed = device_memory(), program_bytes(program)
    if limit is None or needed is None:
        return
    held = held_bytes(arguments)
    if needed > limit:
        raise ValueError(_too_much(f"{name} needs", needed, held, limit))
    log.info("%s: %s of %s memory a device", name, _gib(needed), _gib(limit))
    if needed > NEARLY * limit:
        log.warning("%s", _too_much(f"{name} needs", needed, held, limit))


def _too_much(what: str, needed: int, held: int, limit: int) -> str:
    cpu = jax.local_devices()[0].platform == "cpu"
    more = "take a smaller model" if cpu else "set model.remat=block, model.dtype=bfloat16"
    return (
        f"{what} {_gib(needed)} of memory a device ({_gib(held)} of it state and batch), and there "
        f"is {_gib(limit)}. Lower config.batch_size (optim.accumulate_steps keeps the clips of an "
        f"update), or grids.max_tokens and budgets, or {more}"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size < 1000 * 2**30 else f"{size / 2**30:,.0f} GiB"


def _free_on_machine() -> int | None:
    text = _text("/proc/meminfo")
    found = re.search(r"^MemAvailable: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _free_in_container() -> int | None:
    """What a container (cgroup, second version) may still take; None: no limit."""
    most, now = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    return max(int(most) - int(now), 0) if most.isdigit() and now.isdigit() else None


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def program_bytes(program: jax.stages.Compiled) -> int | None:
    """Bytes on one device while a compiled program runs; None where the platform does not tell.

    The new state takes the place of the old one, which is donated.
    """
    memory = program.memory_analysis()
    if memory is None:
        return None
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return held - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def held_bytes(tree: Any) -> int:
    """Bytes of one device's part of a tree of arrays or shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def peak_bytes(jaxpr: core.Jaxpr) -> int:
    """Most bytes of values that are alive at one time, without those of the inputs.

    Every operation is taken to write its result, which fused ones do not.
    """
    last_use = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in eqn.invars if _is_var(var)}
    last_use |= dict.fromkeys(filter(_is_var, jaxpr.outvars), len(jaxpr.eqns))
    ends: dict[int, int] = {}  # number of an operation -> bytes that are free after it
    alive = peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        inside = max((peak_bytes(inner) for inner in _inner(eqn)), default=0)
        made = 0
        for var in eqn.outvars:
            size = _bytes(var.aval)
            made += size
            end = last_use.get(var, i)
            ends[end] = ends.get(end, 0) + size
        peak = max(peak, alive + max(inside, made))
        alive += made - ends.pop(i, 0)
    return peak


def _is_var(atom: Any) -> bool:
    return isinstance(atom, core.Var)


def _inner(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """Jaxprs that an operation runs, such as the body of a scan."""
    for value in jax.tree.leaves(
        list(eqn.params.values()), is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr)
    ):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _bytes(aval: Any) -> int:
    if not hasattr(aval, "shape") or jax.dtypes.issubdtype(aval.dtype, jax.dtypes.extended):
        return 0
    return math.prod(aval.shape) * aval.dtype.itemsize
