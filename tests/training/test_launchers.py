"""Which variables mean that others will come. Values as Slurm, Open MPI and TPU hosts set them."""

import pytest

from fluxjax.training.launchers import launcher

JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NNODES": "2", "SLURM_NODELIST": "n[1-2]"}
BATCH = JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
STEP = BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "2"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3",
       "OMPI_COMM_WORLD_LOCAL_RANK": "1"}  # fmt: skip
URI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}
POD = {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2", "TPU_WORKER_ID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (JOB, None),  # an ssh session that took the job's variables over
        (BATCH, None),  # a batch script that does not call srun
        (STEP, (2, "processes of this srun")),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1"}, None),
        # salloc's shell is a step of one task in a job of two
        (STEP | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, None),
        (STEP | {"SLURM_STEP_ID": "4294967291"}, None),  # the batch script's own step
        (STEP | {"SLURM_STEP_NUM_TASKS": "two"}, None),
        (MPI | URI, (4, "processes of this mpirun")),
        (STEP | MPI | URI, (4, "processes of this mpirun")),  # its daemons are srun's
        (MPI | URI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"} | URI, None),  # no rank: not started by it
        (POD, (2, "hosts of this TPU pod")),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, None),
        (POD | {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_launches_are_told_from_shells_inside_an_allocation(environment, expected):
    assert launcher(environment) == expected


def test_an_mpirun_that_tells_no_address_is_an_error_with_the_remedy():
    with pytest.raises(ValueError, match="--num_processes=4 and --process_id=.OMPI.*=off"):
        launcher(MPI)
