"""Programs of several processes: joining them, and bringing sharded arrays together."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from fluxjax.training.mesh import replicated

MODES = ("auto", "on", "off")
# A process that is silent for so long is dead, and the others end with an error.
HEARTBEAT_SECONDS = 30
MEET_SECONDS = 1800


def start(
    mode: str = "auto",
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run through `jax.distributed`; before anything else uses JAX.

    Args:
      mode: "auto" joins where a cluster of several processes is detected, or the other arguments
        are given; "on" always, with JAX's own detection; "off" never.
      coordinator: HOST:PORT of process 0. Like the next two only needed where JAX cannot find
        them out by itself, which it does on TPU pods, under Slurm and Open MPI.
      num_processes: of the run.
      process_id: number of this process.

    Raises:
      ValueError: if only some of the three are given, or JAX cannot find them out.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(f"--{', --'.join(missing)} must be given too, to join processes by hand")
    if mode == "off" or (mode == "auto" and missing and not detected(os.environ)):
        return
    jax.distributed.initialize(
        coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )


def detected(environment: Mapping[str, str]) -> bool:
    """Whether a launcher says that several processes run: a TPU pod, Slurm or Open MPI."""
    counts = (environment.get(key, "1") for key in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    if any(count.isdigit() and int(count) > 1 for count in counts):
        return True
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")


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
