"""Which tokens of a clip a masked autoencoder hides: static numbers, masks drawn a clip at a time.

Sources: tube masks of VideoMAE (arXiv 2203.12602, section 3.3); random masks over space and time
as in MAE (arXiv 2111.06377). "group_dynamic" is ours: it shows what moves, see `motion_mask`.
"""

import jax
import jax.numpy as jnp

from fluxjax.tokens.selection import group_dynamic_scores, rank_tokens
from fluxjax.tokens.tokens import Tokens

MASKS = ("tube", "random", "group_dynamic")


def hidden_per_frame(area: int, ratio: float) -> int:
    """How many of a frame's `area` places are hidden: int(ratio * area), as in the official code.

    Raises:
      ValueError: if nothing is hidden, or nothing is left to see.
    """
    hidden = int(ratio * area)
    if not 0 < hidden < area:
        raise ValueError(
            f"a mask ratio of {ratio} hides {hidden} of {area} places; it must leave some and hide "
            "some"
        )
    return hidden


def hidden_tokens(grid: tuple[int, int, int], kind: str, ratio: float) -> int:
    """How many tokens of a clip on a grid (T, H, W) a mask of a kind hides.

    Raises:
      ValueError: on an unknown kind, or a ratio that leaves nothing.
    """
    frames, area = grid[0], grid[1] * grid[2]
    if kind not in MASKS:
        raise ValueError(f"unknown mask {kind!r}; choose one of {MASKS}")
    if kind == "random":
        return hidden_per_frame(frames * area, ratio)
    return frames * hidden_per_frame(area, ratio)


def draw_mask(kind: str, tokens: Tokens, keys: jax.Array, ratio: float) -> jax.Array:
    """A mask of every clip, [B, N] bool, True for hidden tokens; False at padding.

    Args:
      kind: of `MASKS`.
      tokens: pixels [B, N, D] of tubelets, each clip on its own grid.
      keys: [B], one a clip.
      ratio: share that is hidden, see `hidden_tokens`.

    Raises:
      ValueError: on an unknown kind.
    """
    if kind == "tube":
        return tube_mask(tokens, keys, ratio)
    if kind == "random":
        return random_mask(tokens, keys, ratio)
    if kind == "group_dynamic":
        return motion_mask(tokens, keys, ratio)
    raise ValueError(f"unknown mask {kind!r}; choose one of {MASKS}")


def tube_mask(tokens: Tokens, keys: jax.Array, ratio: float) -> jax.Array:
    """The same places of every frame are hidden, uniformly drawn; [B, N] bool."""
    _, rows, columns = tokens.grid_bound
    area = _area(tokens)
    places = jnp.arange(rows * columns, dtype=jnp.int32)[None]
    noise = jnp.where(places < area, _uniform(keys, rows * columns), jnp.inf)
    hidden = _ranks(noise) < _counts(rows * columns, ratio)[area]
    slots = jnp.arange(tokens.valid.shape[1], dtype=jnp.int32)[None]
    return jnp.take_along_axis(hidden, slots % jnp.maximum(area, 1), axis=1) & tokens.valid


def random_mask(tokens: Tokens, keys: jax.Array, ratio: float) -> jax.Array:
    """Tokens of the whole clip are hidden, uniformly drawn; [B, N] bool."""
    n = tokens.valid.shape[1]
    noise = jnp.where(tokens.valid, _uniform(keys, n), jnp.inf)
    count = jnp.sum(tokens.valid, axis=1, dtype=jnp.int32)[:, None]
    return (_ranks(noise) < _counts(n, ratio)[count]) & tokens.valid


def motion_mask(tokens: Tokens, keys: jax.Array, ratio: float) -> jax.Array:
    """What moves is shown, what stands still is hidden; [B, N] bool.

    In every temporal group (see `fluxjax.tokens.selection`) as many tokens are shown as a tube
    mask would show, drawn without replacement with probabilities proportional to how much their
    pixels changed since the tubelet before (Efraimidis and Spirakis, by the Gumbel trick).
    """
    values = tokens.values.astype(jnp.float32)
    change = group_dynamic_scores(tokens.replace(values=values)) + 1e-6  # nothing is impossible
    uniform = jnp.maximum(_uniform(keys, tokens.valid.shape[1]), 1e-7)
    scores = jnp.log(change) - jnp.log(-jnp.log(uniform))
    ranking = rank_tokens(tokens, scores)
    area, groups = _area(tokens), ranking.groups[:, None]
    _, rows, columns = tokens.grid_bound
    shown = area - _counts(rows * columns, ratio)[area]
    shown = tokens.grid[:, :1] // groups * shown
    rows_ = jnp.arange(len(keys))[:, None]
    hidden_in_order = ranking.rank >= shown
    hidden = jnp.zeros(tokens.valid.shape, bool).at[rows_, ranking.order].set(hidden_in_order)
    return hidden & tokens.valid


def _area(tokens: Tokens) -> jax.Array:
    """[B, 1] int32, places of a frame."""
    return tokens.grid[:, 1:2] * tokens.grid[:, 2:3]


def _counts(most: int, ratio: float) -> jax.Array:
    """[most + 1] int32: int(ratio * n) of every n, in float64 as in the official code."""
    return jnp.asarray([int(ratio * n) for n in range(most + 1)], jnp.int32)


def _uniform(keys: jax.Array, count: int) -> jax.Array:
    """[B, count] float32 in [0, 1), a row a key."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def _ranks(noise: jax.Array) -> jax.Array:
    """Each entry's place among its row's, 0 the smallest; [B, N] int32."""
    return jnp.argsort(jnp.argsort(noise, axis=1), axis=1)
