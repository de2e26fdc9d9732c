"""Meshes: which devices hold what, and that no mesh changes what is computed."""

import functools
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from fluxjax.models import create_model
from fluxjax.tasks import create_task
from fluxjax.training import loop, mesh
from tests import tiny
from tests.training.test_loop import run

MIXED = {"data": 2, "fsdp": 2, "tensor": 2}


def config_for(sizes):
    config = tiny.get_config()
    config.total_steps = 5
    config.optim.ema = 0.9
    config.mesh.update(sizes)
    return config


def one_device():
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))


@pytest.fixture(scope="module")
def losses_of(tmp_path_factory):
    @functools.cache
    def train(**sizes):
        folder = tmp_path_factory.mktemp("run")
        use = None if sizes else one_device()
        state, losses = run(config_for(sizes), folder, use)
        return losses, state, folder

    return train


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": None, "fsdp": 8}, MIXED],
                         ids=["data", "fsdp", "mixed"])  # fmt: skip
def test_the_losses_of_five_steps_are_those_of_one_device(losses_of, sizes):
    alone, _, _ = losses_of()
    sharded, state, _ = losses_of(**sizes)
    assert len(sharded) == 5
    np.testing.assert_allclose(sharded, alone, rtol=1e-5)
    kernel = state.params["blocks_0"]["attn"]["qkv"]["kernel"]
    ways = sizes.get("fsdp", 1) * sizes.get("tensor", 1)
    held = [leaf for leaf in jax.tree.leaves((state.opt_state, state.ema)) if
            leaf.shape == kernel.shape] + [kernel]  # fmt: skip
    assert len(held) == 4  # AdamW's two moments, the moving average and the parameter
    for leaf in held:
        assert leaf.addressable_shards[0].data.size == kernel.size // ways


@pytest.mark.slow
def test_a_checkpoint_resumes_under_another_mesh(losses_of, tmp_path):
    expected, _, folder = losses_of(data=None, fsdp=8)
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(next((tmp_path / "run").rglob("5")))  # the checkpoint of the last step
    _, losses = run(config_for(MIXED), tmp_path / "run")
    assert [step for step, _ in losses] == [5], "did not resume after step 4"
    np.testing.assert_allclose(losses, expected[4:], rtol=1e-5)


def test_specs_follow_rules_and_divisibility():
    devices = mesh.make_mesh(MIXED)
    assert dict(devices.shape) == MIXED
    spec = functools.partial(mesh.spec_of, mesh=devices)
    assert spec("blocks_3/attn/qkv/kernel", (16, 48)) == PartitionSpec("fsdp", "tensor")
    assert spec("blocks_3/mlp/fc2/kernel", (64, 16)) == PartitionSpec("tensor", "fsdp")
    assert spec("poolers_0/q/kernel", (15, 48)) == PartitionSpec(None, "tensor")
    assert spec("heads_0/kernel", (16, 5)) == PartitionSpec("fsdp")
    assert spec("blocks_3/attn/qkv/bias", (48,)) == PartitionSpec()
    assert spec("layer1_block0/conv2/kernel", (3, 4, 16, 16)) == PartitionSpec(None, None, "fsdp")
    fc1 = spec("blocks1_0/fc1/kernel", (1, 1, 2, 16, 32))
    assert fc1 == PartitionSpec(None, None, None, "fsdp", "tensor")
    whole = mesh.make_mesh()
    assert dict(whole.shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert mesh.spec_of("blocks_3/attn/qkv/kernel", (16, 48), whole) == PartitionSpec()


def test_every_large_parameter_of_every_model_has_a_rule():
    """At S size, what no rule cuts is small: norms, biases, tokens, stems, depthwise kernels."""
    devices = mesh.make_mesh({"data": 1, "fsdp": 4, "tensor": 2})
    convolutional = ("tsm_r50", "slowfast_r50", "uniformer_s")
    for name in ("fluxvit_s14", "internvideo2_s14", *convolutional):
        model = create_model(name, num_classes=400)
        video = jax.ShapeDtypeStruct((1, 8, 224, 224, 3), np.float32)
        params = jax.eval_shape(model.init, jax.random.key(0), video)["params"]
        placed = jax.tree.map(
            lambda leaf, sharding: leaf.size if not any(sharding.spec) else 0,
            params,
            mesh.shardings(params, devices),
        )
        largest = 5**3 * 128 if name in convolutional else 6 * 384
        assert max(jax.tree.leaves(placed)) <= largest, name
    trainer = loop.Trainer.create(create_task(config_for({"fsdp": 4, "tensor": 2})))
    moments = trainer.abstract_state.opt_state
    cut = [leaf.sharding.spec for leaf in jax.tree.leaves(moments) if leaf.shape == (16, 48)]
    assert len(cut) >= 2 and set(cut) == {PartitionSpec("fsdp", "tensor")}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3}, "does not fit 8 devices"),
        ({"data": None, "fsdp": None}, "only one mesh axis may be None"),
        ({"model": 2}, r"unknown mesh axes \['model'\]"),
        ({"data": 2, "fsdp": 2}, "their product must be 8"),
        ({"data": None, "fsdp": 0}, "does not fit 8 devices"),
    ],
)
def test_impossible_meshes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        mesh.make_mesh(sizes)


def test_the_batch_must_be_cut_evenly():
    config = config_for({"data": None})
    config.batch_size = 12
    with pytest.raises(ValueError, match="batch_size=12 must be a multiple of the 8 devices"):
        loop.Trainer.create(create_task(config))
    config.mesh.tensor = 2  # these see the same clips
    loop.Trainer.create(create_task(config))
