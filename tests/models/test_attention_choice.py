"""Which back end "auto" stands for, and what is said of those that cannot be used."""

import logging

import jax
import jax.numpy as jnp
import pytest

from fluxjax.models import attention_choice
from fluxjax.models.attention_choice import (
    Place,
    Sizes,
    choose_attention,
    place_of_tracing,
    resolve,
)
from fluxjax.training.mesh import activations_on, make_mesh

LONG = Sizes(clips=8, queries=3073, keys=3073, heads=6, head_dim=64, dtype=jnp.bfloat16)
SHORT = LONG._replace(queries=49, keys=49)
CPU, AMPERE, HOPPER = Place("cpu"), Place("cuda", 4, None, (8, 0)), Place("cuda", 1, None, (9, 0))
TPU, TPUS = Place("tpu"), Place("tpu", 8, 4)


@pytest.mark.parametrize(
    "place, sizes, name, why",
    [
        (CPU, LONG, "blockwise", "long clips"),
        (CPU, LONG._replace(dtype=jnp.float32), "blockwise", "long clips"),
        (CPU, SHORT, "xla", ""),
        (CPU, LONG._replace(queries=1), "xla", "one query"),
        (AMPERE, LONG, "cudnn", "cuda"),
        (AMPERE, SHORT._replace(dtype=jnp.float16), "cudnn", "cuda"),
        (AMPERE, LONG._replace(queries=1), "xla", "one query"),
        (AMPERE, LONG._replace(dtype=jnp.float32), "xla", "the dtype is float32"),
        (AMPERE, LONG._replace(head_dim=36), "xla", "they have 36"),
        (AMPERE, LONG._replace(head_dim=136), "xla", "up to 128, they have 136"),
        (HOPPER, LONG._replace(head_dim=136), "cudnn", "cuda"),
        (Place("cuda", 1, None, (7, 5)), LONG, "xla", "the GPU has 7.5"),
        (Place("rocm"), LONG, "xla", "nothing else runs on rocm"),
        (TPU, LONG, "pallas", "tpu"),
        (TPU, LONG._replace(dtype=jnp.float32), "pallas", "tpu"),
        (TPU, SHORT, "xla", "fewer than 512 tokens"),
        (TPUS, LONG, "pallas", "tpu"),
        (TPU, LONG._replace(dtype=jnp.float16), "xla", "bfloat16 or float32, the dtype is float16"),
        (TPU, LONG._replace(head_dim=512), "xla", "heads of 4 to 256, they have 512"),
        (TPU, LONG._replace(head_dim=1), "xla", "heads of 4 to 256, they have 1"),
        (TPUS, LONG._replace(clips=6), "xla", "a multiple of the mesh's 4 parts"),
        (Place("tpu", 8), LONG, "xla", "traced on none"),
        *((place, LONG._replace(clips=None), "xla", "open") for place in (CPU, AMPERE, TPUS)),
    ],
)
def test_auto_by_device_and_sizes(place, sizes, name, why):
    chosen, reason = choose_attention(place, sizes)
    assert chosen == name and why in reason
    assert resolve("auto", place, sizes) == name


@pytest.mark.parametrize(
    "name, place, sizes, message",
    [
        ("flash", CPU, LONG, r"unknown attention back end 'flash'; choose one of \('auto', 'xla'"),
        ("cudnn", CPU, LONG, "attention='cudnn' cannot be used: cudnn needs an NVIDIA GPU, the "
                             "program runs on cpu; set it to 'auto' or 'xla'"),
        ("cudnn", AMPERE, LONG._replace(dtype=jnp.float32), "bfloat16 or float16, the dtype is"),
        ("cudnn", AMPERE, LONG._replace(head_dim=12), "a multiple of 8 up to 128, they have 12"),
        ("pallas", AMPERE, LONG, "attention='pallas' cannot be used: pallas needs a TPU"),
        ("pallas", TPU, LONG._replace(dtype=jnp.float16), "pallas needs bfloat16 or float32"),
        ("pallas", Place("tpu", 8), LONG, "pallas on 8 devices needs a mesh"),
        ("blockwise", CPU, LONG._replace(clips=None), "needs a known number of clips"),
    ],
)  # fmt: skip
def test_explicit_names_that_cannot_work_are_refused(name, place, sizes, message):
    with pytest.raises(ValueError, match=message):
        resolve(name, place, sizes)


@pytest.mark.parametrize(
    "name, place, sizes",
    [
        ("xla", CPU, LONG),
        ("xla", AMPERE, LONG),
        ("xla", TPUS, LONG._replace(clips=None)),
        ("blockwise", TPU, SHORT),
        ("cudnn", AMPERE, SHORT),
        ("pallas", TPU, SHORT),
    ],
)
def test_explicit_names_stand_for_themselves(name, place, sizes):
    assert resolve(name, place, sizes) == name


def test_the_choice_is_said_once(caplog):
    attention_choice._say.cache_clear()
    with caplog.at_level(logging.INFO, logger="fluxjax"):
        for place, sizes in ((CPU, LONG), (CPU, LONG), (CPU, SHORT), (CPU, LONG)):
            resolve("auto", place, sizes)
        resolve("xla", CPU, LONG)
    assert [record.getMessage() for record in caplog.records] == [
        "attention is computed by blockwise: long clips on CPUs",
        "attention is computed by xla: on CPUs",
    ]


def test_the_place_is_that_of_the_mesh_or_of_the_arrays():
    assert place_of_tracing() == Place("cpu", jax.device_count())
    with activations_on(make_mesh({"data": 2, "fsdp": 2, "tensor": 2})):
        assert place_of_tracing() == Place("cpu", 8, 4)
    with jax.default_device(jax.devices()[1]):
        assert place_of_tracing() == Place("cpu")
    kind = jax.sharding.AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((4,), ("data",), abstract_device=kind)
    with jax.sharding.use_abstract_mesh(mesh):
        assert place_of_tracing() == Place("tpu", 4, 1)
