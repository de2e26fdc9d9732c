"""What programs send between devices, and slices that are compiled for without having them."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fluxjax.training.collectives import Traffic, collectives
from fluxjax.training.mesh import make_mesh
from fluxjax.training.topologies import memory_of, topology_devices

TPU = importlib.util.find_spec("libtpu") is not None

LINES = """
%all-reduce-scatter.1 (input: bf16[1024,1024]) -> bf16[512,1024] {
  %all-reduce.2 = bf16[1024,1024]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=3
}
ENTRY %main (a: f32[4]) -> f32[4] {
  %ag = (f32[8,4]{1,0}, f32[32,4]{1,0}) all-gather-start(%a), channel_id=2
  %ag.1 = f32[32,4]{1,0} all-gather-done(%ag)
  %both = ((f32[2]{0}, bf16[4]{0}), (f32[8]{0}, bf16[16]{0})) all-gather-start(%d, %e)
  %next = (f32[2,3]{1,0}, f32[2,3]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%f)
  %fusion = bf16[512,1024]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %sum = (f32[], bf16[3,2]{1,0}) all-reduce(%b, %c), to_apply=%add
}
"""


def test_kinds_and_bytes_are_read_from_the_text_of_a_program():
    assert collectives(LINES) == {
        "reduce-scatter": Traffic(1, 2 * 1024 * 1024),
        "all-gather": Traffic(2, 4 * 32 * 4 + 4 * 8 + 2 * 16),
        "all-reduce": Traffic(1, 4 + 2 * 3 * 2),
        "collective-permute": Traffic(1, 4 * 2 * 3),
    }


SPREAD = """
%fused_computation.1 (x: f32[2]) -> f32[8] {
  %begins = f32[8]{0} all-gather(%x), channel_id=5, dimensions={0}
}
%async_collective_fusion.2 (x: f32[2]) -> f32[8] {
  %goes_on = f32[8]{0} all-gather(%x), channel_id=5, dimensions={0}
}
%fused_computation.3 (x: f32[2]) -> f32[8] {
  %ends = f32[8]{0} all-gather(%x), channel_id=5, dimensions={0}
}
%turn (x: (s32[], f32[2])) -> (s32[], f32[2]) {
  %a = f32[8]{0} fusion(%y), kind=kCustom, calls=%fused_computation.1
  %b = f32[8]{0} fusion(%a), kind=kOutput, calls=%async_collective_fusion.2
  %c = f32[8]{0} fusion(%b), kind=kCustom, calls=%fused_computation.3
}
ENTRY %main (a: f32[2]) -> f32[2] {
  %loop = (s32[], f32[2]) while(%start), body=%turn, backend_config={"known_trip_count":{"n":"3"}}
  %other = f32[8]{0} all-gather(%a), channel_id=6, dimensions={0}
  %kind = f32[2]{0} all-reduce(%a), channel_id=5, to_apply=%add
  %none = f32[2]{0} all-reduce(%a), to_apply=%add
  %neither = f32[2]{0} all-reduce(%a), to_apply=%add
}
"""


def test_a_collective_that_is_spread_over_fusions_counts_once():
    """As TPUs' compiler does where it goes on beside computation."""
    assert collectives(SPREAD) == {
        "all-gather": Traffic(3 + 1, (3 + 1) * 32),
        "all-reduce": Traffic(3, 3 * 8),
    }


LOOP = """
%turn (x: (s32[], f32[6])) -> (s32[], f32[6]) {
  %sum = f32[6]{0} all-reduce(%y), to_apply=%add
}
%again (x: (s32[], f32[6])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  ROOT %less = pred[]{:T(512)} compare(%turn_of, %limit), direction=LT
}
ENTRY %main (a: f32[6]) -> f32[6] {
  %loop = (s32[], f32[6]) while(%start), condition=%again, body=%turn
  %whole = f32[6]{0} all-gather(%a), channel_id=1
}
"""


def test_turns_of_a_loop_are_read_from_its_condition():
    """TPUs' compiler does not write the number of turns beside the loop."""
    assert collectives(LOOP) == {"all-reduce": Traffic(12, 12 * 24), "all-gather": Traffic(1, 24)}
    unknown = LOOP.replace("direction=LT", "direction=GT")
    assert collectives(unknown)["all-reduce"] == Traffic(1, 24)


def test_what_a_loop_repeats_counts_as_often():
    mesh = make_mesh({"data": 8})
    cut, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    x = jax.ShapeDtypeStruct((16, 6), jnp.float32, sharding=cut)

    def loop(x):
        def turn(total, _):
            total = jnp.sum(jnp.sin(total + x), axis=0)
            return jax.lax.with_sharding_constraint(total, whole), None

        return jax.lax.scan(turn, jnp.zeros(6), None, length=5)[0]

    text = jax.jit(loop, out_shardings=whole).lower(x).compile().as_text()
    assert collectives(text) == {"all-reduce": Traffic(5, 5 * 4 * 6)}


def test_a_compiled_gradient_sums_its_parameter_over_the_batch():
    mesh = make_mesh({"data": 8})
    cut, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    w = jax.ShapeDtypeStruct((6, 5), jnp.float32, sharding=whole)
    x = jax.ShapeDtypeStruct((16, 6), jnp.float32, sharding=cut)
    gradient = jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w)))
    program = jax.jit(gradient, out_shardings=whole).lower(w, x).compile()
    assert collectives(program.as_text()) == {"all-reduce": Traffic(1, 4 * 6 * 5)}
    alone = jax.jit(lambda x: x + 1, out_shardings=cut).lower(x).compile()
    assert collectives(alone.as_text()) == {}


@pytest.mark.skipif(TPU, reason="the TPU compiler is installed")
def test_slices_need_the_compiler():
    with pytest.raises(ValueError, match=r'v5e:2x2.* pip install "fluxjax\[tpu\]"'):
        topology_devices("v5e:2x2")


@pytest.mark.skipif(not TPU, reason="the TPU compiler (extra tpu) is not installed")
def test_slices_by_name():
    devices = topology_devices("v5e:4x4")
    assert len(devices) == 16 and memory_of(devices[0]) == 16 * 2**30
    assert dict(make_mesh({"data": None, "fsdp": 4}, devices).shape) == {
        "data": 4, "fsdp": 4, "tensor": 1,
    }  # fmt: skip
    for name, count in (("v5e:1x1", 1), ("v6e:1x1", 1), ("v5p:2x2x1", 4)):
        assert len(topology_devices(name)) == count


@pytest.mark.skipif(not TPU, reason="the TPU compiler (extra tpu) is not installed")
@pytest.mark.parametrize("name", ["v9:2x2", "v5e:3x3", "v5e", "v5e:0x2", "", "v5litepod-8"])
def test_what_is_no_slice_is_refused(name):
    with pytest.raises(ValueError, match=f"dry_run_topology='{name}' is no TPU slice"):
        topology_devices(name)


@pytest.mark.skipif(not TPU, reason="the TPU compiler (extra tpu) is not installed")
@pytest.mark.parametrize("name", ["v4:2x2x1", "v2:2x2"])
def test_generations_that_nothing_is_compiled_for_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}': nothing is compiled for a TPU v"):
        topology_devices(name)
