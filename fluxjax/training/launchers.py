"""Who has started this process beside others, by the variables that launchers leave.

A shell that was opened inside an allocation (ssh, salloc, a batch script) has many of them as well,
but nobody else will come there: only what stands in the processes of one launch counts.
"""

from collections.abc import Mapping
from typing import NamedTuple

_SLURM = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST")
_SPECIAL_STEPS = 0xFFFFFFF0  # the batch script's, an interactive shell's, that of ssh sessions


class Launch(NamedTuple):
    """Processes that were started together.

    Attributes:
      processes: how many.
      kind: what they are called.
    """

    processes: int
    kind: str

    def __str__(self) -> str:
        return f"the {self.processes} {self.kind}"


def launcher(environment: Mapping[str, str]) -> Launch | None:
    """The launch of several processes that this one is of: srun, mpirun, a TPU pod; or None.

    Raises:
      ValueError: if it is of one that does not say how to find the others.
    """
    step = _number(environment, "SLURM_STEP_ID", default=_SPECIAL_STEPS)
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
    ranks = _number(environment, "OMPI_COMM_WORLD_SIZE")
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if ranks > 1 and "OMPI_COMM_WORLD_RANK" in environment:
        if "OMPI_MCA_orte_hnp_uri" not in environment:
            raise ValueError(
                f"this is one of {ranks} processes of an mpirun that does not tell their address "
                "(Open MPI 5 does not); give --coordinator=HOST:PORT of rank 0, --num_processes="
                f"{ranks} and --process_id=$OMPI_COMM_WORLD_RANK, or run alone with "
                "--distributed=off"
            )
        return Launch(ranks, "processes of this mpirun")
    if tasks > 1 and step < _SPECIAL_STEPS and all(name in environment for name in _SLURM):
        return Launch(tasks, "processes of this srun")
    if len(hosts) > 1 and "TPU_WORKER_ID" in environment:
        return Launch(len(hosts), "hosts of this TPU pod")
    return None


def _number(environment: Mapping[str, str], name: str, default: int = 1) -> int:
    value = environment.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else default
