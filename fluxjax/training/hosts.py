"""Programs of several processes: joining them, and bringing sharded arrays together."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from fluxjax.training.launchers import launcher
from fluxjax.training.mesh import replicated

log = logging.getLogger(__name__)

MODES = ("auto", "on", "off")
# A process that is silent for so long is dead, and the others end with an error.
HEARTBEAT_SECONDS = 30
JOIN_SECONDS = 300
MEET_SECONDS = 1800


def start(
    mode: str = "auto",
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    seconds: int = JOIN_SECONDS,
) -> None:
    """Joins the processes of a run through `jax.distributed`; before anything else uses JAX.

    Args:
      mode: "auto" joins where a launcher has started several processes, or the other arguments
        are given; "on" always, with JAX's own detection; "off" never.
      coordinator: HOST:PORT of process 0. Like the next two only needed where JAX cannot find
        them out by itself, which it does on TPU pods, under Slurm and Open MPI 4.
      num_processes: of the run.
      process_id: number of this process.
      seconds: how long to wait for the others.

    Raises:
      ValueError: if only some of the three are given, or JAX cannot find them out. If the others
        do not come, the process ends with status 1 and says so.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(f"--{', --'.join(missing)} must be given too, to join processes by hand")
    launched = launcher(os.environ) if missing and mode == "auto" else None
    if mode == "off" or (mode == "auto" and missing and launched is None):
        return
    whom = f"the {num_processes} processes of this run, at {coordinator}"
    if missing:
        whom = "the processes that JAX detects" if launched is None else str(launched)
    log.info("waiting up to %d s for %s; to run alone: --distributed=off", seconds, whom)
    # JAX's own end of waiting is an abort with a stack trace.
    alarm = threading.Timer(seconds, _give_up, (whom, seconds))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=2 * seconds,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f"JAX cannot find {whom} ({error}); give --coordinator, --num_processes and "
            "--process_id, or run alone with --distributed=off"
        ) from error
    finally:
        alarm.cancel()


def _give_up(whom: str, seconds: int) -> None:
    """Ends the process, whose main thread waits inside JAX."""
    log.error(
        "%s did not all come within %d s; start all of them, with the same command, or run alone "
        "with --distributed=off", whom, seconds,
    )  # fmt: skip
    logging.shutdown()
    os._exit(1)


def coordination_client() -> Any:
    """The client of `jax.distributed`'s coordination service, which works without any device."""
    from jax._src import distributed  # JAX has no public name for it

    return distributed.global_state.client


def meet(name: str) -> None:
    """Waits until all processes are here; `name` is used once a run.

    Processes that start to talk over CPUs (gloo) or GPUs wait half a minute for each other, and one
    may be that late from importing or from making a corpus.

    Raises:
      jax.errors.JaxRuntimeError: if one does not come.
    """
    if jax.process_count() > 1:
        coordination_client().wait_at_barrier(f"fluxjax/meet/{name}", MEET_SECONDS * 1000)


@contextlib.contextmanager
def first_goes_ahead(name: str) -> Iterator[None]:
    """The first process runs the body, then the others: what it makes they find made."""
    first = jax.process_index() == 0
    if not first:
        meet(name)
    yield
    if first:
        meet(name)


def whole(tree: Any, mesh: Mesh) -> Any:
    """Sharded arrays -> whole ones on every device; all processes must call it."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
