"""Losses of pairs over a batch: on any mesh, in chunks, in parts, and with relevancies."""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tasks.contrastive import contrastive_loss, max_margin_loss
from fluxjax.tasks.micro_batches import in_parts
from fluxjax.training import mesh as meshes

ROOT = pathlib.Path(__file__).parents[2]
B, E, D = 16, 8, 6
RNG = np.random.default_rng(0)
VIDEO, TEXT = RNG.standard_normal((2, B, D)).astype(np.float32)
WEIGHTS = RNG.standard_normal((2, D, E)).astype(np.float32)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def loss(params, video, text, kind="contrastive", chunk=None):
    weights, scale = params
    video, text = video @ weights[0], text @ weights[1]
    if kind == "margin":
        return max_margin_loss(video, text, chunk=chunk)[0]
    return contrastive_loss(unit(video), unit(text), jnp.exp(scale), chunk)[0]


PARAMS = (WEIGHTS, np.float32(1.5))


@functools.cache
def alone(kind):
    gradient = jax.value_and_grad(functools.partial(loss, kind=kind))
    return jax.jit(gradient)(PARAMS, VIDEO, TEXT)


def same(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


def test_the_numbers_of_the_definition():
    video, text = (
        np.asarray(unit(x @ w), np.float64) for x, w in zip((VIDEO, TEXT), WEIGHTS, strict=True)
    )
    logits = np.exp(1.5) * video @ text.T
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    expected = (rows.mean() + columns.mean()) / 2
    value, accuracy = contrastive_loss(*map(jnp.float32, (video, text)), np.exp(np.float32(1.5)))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(alone("contrastive")[0], expected, rtol=1e-6)
    assert accuracy == np.mean(logits.argmax(1) == np.arange(B))


@pytest.mark.parametrize("kind", ["contrastive", "margin"])
@pytest.mark.parametrize("chunk", [None, 1, 2, 3], ids=str)
@pytest.mark.parametrize("sizes", [{"data": 1}, {"data": 8}, {"data": 1, "fsdp": 8}], ids=str)
def test_any_mesh_and_any_chunk_has_the_loss_and_gradient_of_one_device(sizes, chunk, kind):
    gradient = jax.value_and_grad(functools.partial(loss, kind=kind, chunk=chunk))
    if sizes == {"data": 1}:
        return same(jax.jit(gradient)(PARAMS, VIDEO, TEXT), alone(kind))
    mesh = meshes.make_mesh(sizes)
    with meshes.activations_on(mesh):
        batch = jax.device_put((VIDEO, TEXT), meshes.batch_sharding(mesh))
        params = jax.device_put(PARAMS, meshes.replicated(mesh))
        same(jax.jit(gradient)(params, *batch), alone(kind))


def test_two_processes_have_the_loss_and_gradient_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.tasks.contrastive_worker", address]
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    both = [subprocess.Popen([*command, str(i)], env=environment, **options) for i in range(2)]
    value, (weights, scale) = alone("contrastive")
    for process in both:
        output, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
        for found in json.loads(output.splitlines()[-1]).values():
            same(found, [value, weights.tolist(), scale])


def temporary_bytes(count, chunk):
    shape = jax.ShapeDtypeStruct((count, 32), jnp.float32)
    gradient = jax.grad(lambda v, t: contrastive_loss(v, t, 10.0, chunk)[0], (0, 1))
    return jax.jit(gradient).lower(shape, shape).compile().memory_analysis().temp_size_in_bytes


def test_in_chunks_memory_grows_with_the_batch_not_with_its_square():
    small, large = temporary_bytes(2048, 64), temporary_bytes(4096, 64)
    table = 4096**2 * 4
    assert large < 2.2 * small and large < table / 8
    assert temporary_bytes(4096, None) > table


def test_relevancies_are_margins():
    relevancy = np.linspace(0, 1, B, dtype=np.float32)
    video, text = (np.asarray(unit(x @ w)) for x, w in zip((VIDEO, TEXT), WEIGHTS, strict=True))
    cosines = text @ video.T
    terms = [
        max(0, 0.2 * relevancy[i] - cosines[i, i] + other)
        for i in range(B)
        for j in range(B)
        if i != j
        for other in (cosines[i, j], cosines[j, i])
    ]
    for chunk in (None, 3):
        found, top1 = max_margin_loss(video, text, 0.2, relevancy, chunk=chunk)
        np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
        assert top1 == np.mean(cosines.argmax(axis=0) == np.arange(B))
    ones = max_margin_loss(video, text, 0.2, np.ones(B, np.float32))
    np.testing.assert_allclose(ones, max_margin_loss(video, text, 0.2), rtol=1e-6)


def test_one_pair_has_nothing_to_be_far_from():
    with pytest.raises(ValueError, match="needs a batch of 2"):
        max_margin_loss(VIDEO[:1], TEXT[:1])


def encode(params, batch, key):
    del key
    weights, _ = params
    return jax.tree.map(lambda x, w: unit(jnp.tanh(x @ w)), batch, tuple(weights))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_parts_of_a_batch_have_the_gradient_of_the_whole(count):
    def whole(params, batch):
        return contrastive_loss(*encode(params, batch, None), jnp.exp(params[1]))[0]

    def parts(params, batch):
        embed = functools.partial(encode, params)
        features = in_parts(embed, batch, jax.random.key(0), count)
        return contrastive_loss(*features, jnp.exp(params[1]))[0]

    expected = jax.jit(jax.value_and_grad(whole))(PARAMS, (VIDEO, TEXT))
    same(jax.jit(jax.value_and_grad(parts))(PARAMS, (VIDEO, TEXT)), expected)


def test_parts_work_on_every_device_and_draw_for_themselves():
    mesh = meshes.make_mesh({"data": 8})
    batch = jax.device_put(VIDEO, meshes.batch_sharding(mesh))
    noise = lambda x, key: x + jax.random.normal(key, x.shape)  # noqa: E731
    with meshes.activations_on(mesh):
        program = jax.jit(lambda x: in_parts(noise, x, jax.random.key(0), 2))
        compiled = program.lower(batch).compile()
        found = np.asarray(compiled(batch)) - VIDEO
    assert "all-gather" not in compiled.as_text() and "all-to-all" not in compiled.as_text()
    assert np.unique(found.round(4)).size > B * D * 0.95, "two parts drew the same noise"
    with pytest.raises(ValueError, match="batch of 16 cannot be cut into 3"):
        in_parts(noise, VIDEO, jax.random.key(0), 3)


def test_activations_are_kept_of_one_part():
    width, count = 64, 512
    weights = jnp.zeros((4, width, width))
    batch = jnp.zeros((count, 4, width))

    def deep(weights, x, key):
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return jnp.mean(x, axis=1)

    def bytes_of(parts):
        def value(weights):
            return jnp.sum(
                in_parts(functools.partial(deep, weights), batch, jax.random.key(0), parts)
            )

        return (
            jax.jit(jax.grad(value)).lower(weights).compile().memory_analysis().temp_size_in_bytes
        )

    assert bytes_of(16) < 0.5 * bytes_of(1)
