"""Attention in blocks, and the back ends that run elsewhere: the TPU kernel, interpreted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

from fluxjax.models import attention as attention_module
from fluxjax.models import blockwise, pallas_attention
from fluxjax.models.attention import attention, attention_with_sharpness
from fluxjax.models.attention_choice import Place
from fluxjax.training.mesh import activations_on, make_mesh


def inputs(n=150):
    q, k, v = (
        jnp.asarray(np.random.default_rng(i).standard_normal((2, n, 2, 64), np.float32))
        for i in range(3)
    )
    return q, k, v


def pretend(monkeypatch, place):
    monkeypatch.setattr(attention_module, "place_of_tracing", lambda: place)


def value_and_gradients(backend, valid, q, k, v):
    def value(q, k, v):
        out = attention(q, k, v, valid=valid, backend=backend)
        rows = out if valid is None else jnp.where(valid[..., None, None], out, 0)
        return jnp.sum(jnp.sin(rows)), out

    return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(q, k, v)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), a, b)


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
def test_pallas_equals_xla_forward_and_backward(monkeypatch, padded):
    valid = jnp.arange(150)[None] < jnp.array([[150], [97]]) if padded else None
    pretend(monkeypatch, Place("tpu"))
    run = jax.jit(value_and_gradients, static_argnums=0)
    interpret_kernel(monkeypatch)
    assert_close(run("pallas", valid, *inputs()), run("xla", valid, *inputs()))


def interpret_kernel(monkeypatch):
    """By Pallas' plain interpreter: the one that imitates TPUs knows no scalars of batches."""
    plain = functools.partial(splash.make_splash_mha_single_device, interpret=True)
    monkeypatch.setattr(splash, "make_splash_mha_single_device", plain)


@pytest.mark.parametrize(
    "tokens, block, padded",
    [(1, 128, 128), (513, 640, 640), (1025, 640, 1280), (2049, 768, 2304), (3073, 640, 3200)],
)
def test_blocks_of_the_kernel_leave_little_padding(tokens, block, padded):
    assert pallas_attention.block_of(tokens) == block
    assert -(-tokens // block) * block == padded


@pytest.mark.parametrize(
    "sizes, shard",
    [
        ({"data": 2, "fsdp": 2, "tensor": 2}, (1, 20, 1, 64)),
        ({"data": 2, "tensor": 4}, (2, 20, 2, 64)),
    ],
    ids=["clips and heads", "heads that the mesh does not divide"],
)
def test_the_kernel_is_cut_along_clips_and_heads(monkeypatch, sizes, shard):
    """On a mesh each device runs the kernel, here another function, on its part."""
    q, k, v = (jnp.concatenate([x, 2 * x]) for x in inputs(20))
    valid = jnp.arange(20)[None] < jnp.array([[20], [9], [3], [20]])
    expected = jax.jit(functools.partial(value_and_gradients, "xla"))(valid, q, k, v)
    parts = []

    def kernel(q, k, v, seen):
        parts.append(q.shape)
        return attention(q, k, v, valid=seen, backend="xla")

    monkeypatch.setattr(pallas_attention, "_one_device", kernel)
    mesh = make_mesh(sizes)
    pretend(monkeypatch, Place("tpu", mesh.size, 4 // shard[0]))
    with activations_on(mesh):
        result = jax.jit(functools.partial(value_and_gradients, "pallas"))(valid, q, k, v)
    assert set(parts) == {shard}
    assert_close(result, expected)


def test_unknown_back_ends_are_named():
    with pytest.raises(ValueError, match=r"unknown attention back end 'flash'; choose one of"):
        attention(*inputs(4), backend="flash")


@pytest.mark.parametrize("rows", [1, 7, 16, 37, 100])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_in_blocks_equals_the_whole_table(monkeypatch, rows, padded):
    rng = np.random.default_rng(0)
    q, k, v, weight = (
        jnp.asarray(rng.standard_normal((3, n, 2, 8), np.float32)) for n in (37, 23, 23, 37)
    )
    # The last clip has no valid key at all: the mean of its values.
    valid = jnp.arange(23)[None] < jnp.array([[23], [9], [0]]) if padded else None

    def value(q, k, v, backend):
        out = attention(q, k, v, valid=valid, backend=backend)
        return jnp.sum(jnp.sin(out) * weight), out

    expected = jax.jit(jax.grad(lambda *args: value(*args, "xla"), (0, 1, 2), True))(q, k, v)
    monkeypatch.setattr(blockwise, "BLOCK", 3 * rows * 23)
    result = jax.jit(jax.grad(lambda *args: value(*args, "blockwise"), (0, 1, 2), True))(q, k, v)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), result, expected
    )


def test_attention_in_blocks_keeps_half_precision_close():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((1, 64, 2, 32)), jnp.bfloat16) for _ in range(3))
    seen = jnp.ones((1, 1), bool)
    out = blockwise.blockwise_attention(q * 32**-0.5, k, v, seen, jnp.zeros((1, 1)))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        out.astype(jnp.float32), attention(q, k, v).astype(jnp.float32), rtol=0.02, atol=0.01
    )


def test_long_clips_do_not_hold_the_table_of_all_pairs():
    """Gradient of attention over 2,048 tokens, 4 heads: the tables would be 2 x 64 MiB."""
    shape = jax.ShapeDtypeStruct((1, 2048, 4, 16), jnp.float32)
    gradient = jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v) ** 2), argnums=(0, 1, 2))
    memory = jax.jit(gradient).lower(shape, shape, shape).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 40 * 2**20


@pytest.mark.parametrize("backend", ["xla", "blockwise", "pallas"])
def test_a_key_of_mass_two_counts_like_two_keys(monkeypatch, backend):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, n, 2, 8), np.float32)) for n in (9, 6, 6))
    mass = jnp.asarray([[1, 2, 1, 3, 1, 1], [2, 1, 1, 1, 1, 1]], jnp.float32)

    def twice(x, b):
        return jnp.repeat(x[b : b + 1], mass[b].astype(int), axis=1)

    expected = [attention(q[b : b + 1], twice(k, b), twice(v, b), backend="xla") for b in (0, 1)]

    def kernel(q, k, v, valid):
        return attention(q, k, v, valid=valid, backend="xla")

    monkeypatch.setattr(attention_module, "pallas_attention", kernel)
    pretend(monkeypatch, Place("tpu" if backend == "pallas" else "cpu"))
    out = attention(q, k, v, mass=mass, backend=backend)
    np.testing.assert_allclose(out, jnp.concatenate(expected), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("block", [2**20, 500])
def test_sharpness_and_attention_in_blocks_of_queries(monkeypatch, block):
    """Equal to the whole table, forward and backward, for clips with padding and mass."""
    monkeypatch.setattr(attention_module, "BLOCK", block)
    rng = np.random.default_rng(0)
    q, k, v, weight = (
        jnp.asarray(rng.standard_normal((2, 13, 2, 8), np.float32)) for _ in range(4)
    )
    mass = jnp.asarray(rng.uniform(1, 4, (2, 13)), jnp.float32)
    valid = jnp.arange(13)[None] < jnp.array([[13], [9]])

    def value(q, k, v, attend):
        out = attend(q, k, v, valid=valid, mass=mass)
        return jnp.sum(jnp.sin(out) * weight), out

    def in_blocks(*args, **options):
        out, sharp = attention_with_sharpness(*args, **options)
        return out + 0 * jnp.sum(sharp)  # has no gradient

    gradients = [
        jax.jit(jax.grad(lambda q, k, v, attend=attend: value(q, k, v, attend), (0, 1, 2), True))
        for attend in (attention, in_blocks)
    ]
    assert_close(*(gradient(q, k, v) for gradient in gradients))
    logits = np.einsum("bnhd,bmhd->bhnm", q, k) * 8**-0.5
    weights = np.exp(logits) * np.asarray(valid)[:, None, None]
    mean = (weights / weights.sum(axis=-1, keepdims=True)).mean(axis=1)
    entropy = -np.sum(mean * np.log(np.where(mean == 0, 1, mean)), axis=-1)
    _, sharp = jax.jit(attention_with_sharpness)(q, k, v, valid=valid, mass=mass)
    np.testing.assert_allclose(sharp, -entropy, rtol=1e-5)
