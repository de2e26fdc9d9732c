"""Memory and time of EVL's decoder step: sums by offset against the written-out table.

    python -m benchmarks.evl_decoder --model evl_b16 --grid 8x224 --batch 1

The step is loss and gradient of decoder and head on given features, as in training with a frozen
tower. `table` writes the vector of every pair of places out, [hw, hw, C], and computes keys and
values of all tokens, as the official code does; `offsets` is this project's form of both. Memory
is what XLA sets aside for temporary values.
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.report import interleaved, publish, spread
from fluxjax.models import create_model, evl_decoder, temporal_attention
from fluxjax.models.attention import attention
from fluxjax.tokens.grids import parse_grid


def table_attention(self, q, k, grid, places=None):
    """`TemporalCrossAttention` with a vector for every pair of places."""
    del places
    rows, columns = (jnp.arange(side) for side in grid)
    row = rows[:, None, None, None] - rows[None, None, :, None] + grid[0] - 1
    column = columns[None, :, None, None] - columns[None, None, None, :] + grid[1] - 1
    spans, size = tuple(2 * side - 1 for side in grid), grid[0] * grid[1]

    def sums(name, q, k):
        table = self.param(name, nn.initializers.zeros, (*spans, self.features))
        pairs = table[row, column].reshape(size, size, self.features)
        logits = jnp.einsum("btqhd,btkhd->bthqk", q * q.shape[-1] ** -0.5, k)
        weights = jnp.mean(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), axis=2)
        return jnp.einsum("btqk,qkc->btqc", weights, pairs)

    q, k = q[:, :, 1:], k[:, :, 1:]
    before = jnp.pad(sums("w1", q[:, 1:], k[:, :-1]), ((0, 0), (1, 0), (0, 0), (0, 0)))
    after = jnp.pad(sums("w2", q[:, :-1], k[:, 1:]), ((0, 0), (0, 1), (0, 0), (0, 0)))
    return jnp.pad(before + after, ((0, 0), (0, 0), (1, 0), (0, 0)))


def plain_query_attention(self, x, y):
    """`QueryAttention` by keys and values of every token."""
    width, heads = x.shape[-1], self.num_heads

    def project(name, x):
        x = nn.Dense(self.features, dtype=self.dtype, name=name)(x)
        return x.reshape(*x.shape[:2], heads, -1)

    q, k, v = project("q", x[:, None]), project("k", y), project("v", y)
    out = attention(q, k, v).reshape(x.shape[0], self.features)
    return nn.Dense(width, dtype=self.dtype, name="out")(out)


class TableCrossAttention(temporal_attention.TemporalCrossAttention):
    """The naive form under the module's own name and parameters."""

    __call__ = nn.compact(table_attention)


class PlainQueryAttention(evl_decoder.QueryAttention):
    """The naive form under the module's own name and parameters."""

    __call__ = nn.compact(plain_query_attention)


def step_of(model, grid, labels, naive: bool):
    """Compiled (variables, features) -> (loss, gradient of decoder and head)."""
    classes = (TableCrossAttention, PlainQueryAttention)
    if not naive:
        classes = (temporal_attention.TemporalCrossAttention, evl_decoder.QueryAttention)

    def loss(params, features):
        # The decoder looks its parts up by these names when it is traced.
        evl_decoder.TemporalCrossAttention, evl_decoder.QueryAttention = classes
        logits = model.apply(
            {"params": params}, features, grid, train=False, method="classify_features"
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses)

    return jax.jit(jax.value_and_grad(loss))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="evl_b16")
    parser.add_argument("--grid", default="8x224")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    grid, dtype = parse_grid(arguments.grid), jnp.dtype(arguments.dtype)
    model = create_model(arguments.model, num_frames=grid.frames, dtype=dtype)
    frames, rows, columns = grid.shape(model.patch)
    head_dim, length = model.width // model.num_heads, 1 + rows * columns
    shape = (arguments.batch, model.decoder_layers, frames, length)
    rng = np.random.default_rng(0)
    features = {
        "out": jnp.asarray(rng.standard_normal((*shape, model.width), np.float32), dtype),
        **{
            name: jnp.asarray(
                rng.standard_normal((*shape, model.num_heads, head_dim), np.float32), dtype
            )
            for name in ("q", "k")
        },
    }
    labels = jnp.zeros(arguments.batch, jnp.int32)
    init = lambda key: model.init(key, features, (rows, columns), method="classify_features")  # noqa: E731
    params = jax.jit(init)(jax.random.key(0))["params"]
    # The tables begin at zero: other values, so that equal losses mean something.
    params = jax.tree.map(lambda x: x + 0.02 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), params)
    programs, memory = {}, {}
    for name, naive in (("table", True), ("offsets", False)):
        compiled = step_of(model, (rows, columns), labels, naive).lower(params, features).compile()
        programs[name] = compiled
        memory[name] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    losses = {name: float(program(params, features)[0]) for name, program in programs.items()}
    np.testing.assert_allclose(losses["table"], losses["offsets"], rtol=1e-3)
    seconds = interleaved(
        {name: (lambda f=f: f(params, features)) for name, f in programs.items()},
        arguments.repeats,
    )
    rows = [
        {"form": name, "temporary memory": f"{memory[name]:.0f} MiB", "time": spread(seconds[name])}
        for name in programs
    ]
    title = (
        f"decoder step of {arguments.model}, {arguments.grid}, batch {arguments.batch}, "
        f"{arguments.dtype}, {arguments.repeats} interleaved runs"
    )
    publish(title, rows, arguments.json)


if __name__ == "__main__":
    main()
