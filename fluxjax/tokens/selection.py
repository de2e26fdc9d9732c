"""Group-dynamic token selection with static shapes (FluxViT, section 3.2 "Flux").

A token's score is how much its features changed since the previous frame. The clip is cut into
groups of consecutive frames, and the same number of tokens is kept in each group, so that no part
of the clip is lost to one fast movement. All sizes are static; the grid may be traced. Kept tokens
keep their order. Ties are broken in favour of the earlier token.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.tokens.tokens import Tokens, gather

SELECTIONS = ("group_dynamic", "random", "uniform")

# Steps of the golden ratio visit an interval evenly for every number of steps.
_GOLDEN_STEP = np.uint32(2654435769)  # 2^32 / golden ratio


@flax.struct.dataclass
class Ranking:
    """Tokens in the order in which a budget takes them, within each temporal group.

    Attributes:
      order: [B, N] int32 slot numbers, group after group, best score first; padding last.
      rank: [B, N] int32, place of `order`'s entry within its group, 0 the best.
      groups: [B] int32, number of temporal groups of each clip.
    """

    order: jax.Array
    rank: jax.Array
    groups: jax.Array


def num_groups(frames: jax.Array | int) -> jax.Array:
    """The largest of 4, 2, 1 that divides `frames` and leaves two frames a group; [..] int32.

    The reference crashes on 4 frames (four groups of one) and on odd numbers.
    """
    frames = jnp.asarray(frames, jnp.int32)
    fits = lambda g: (frames % g == 0) & (frames >= 2 * g)  # noqa: E731
    return jnp.where(fits(4), 4, jnp.where(fits(2), 2, 1)).astype(jnp.int32)


def group_dynamic_scores(tokens: Tokens) -> jax.Array:
    """Scores each token by its change since the previous frame; [B, N] float32.

    The distance is the 2-norm over features, in float32 whatever the features' dtype, to the token
    at the same place one frame earlier in the same group. The first frame of a group has none and
    takes the score of the second. Clips of one frame have no motion: their scores spread the kept
    tokens evenly over the frame. Padding gets scores without meaning.
    """
    slots = jnp.arange(tokens.values.shape[1], dtype=jnp.int32)[None]
    area = (tokens.grid[:, 1] * tokens.grid[:, 2])[:, None]
    if tokens.static_grid is not None:
        change = _static_change(tokens.values, tokens.static_grid)
    else:
        change = _traced_change(tokens.values, jnp.maximum(slots - area, 0))
    frames = tokens.grid[:, :1]
    frames_per_group = jnp.maximum(frames // num_groups(frames), 1)
    first = tokens.position[..., 0] % frames_per_group == 0
    next_frame = jnp.minimum(slots + area, slots.shape[1] - 1)
    motion = jnp.where(first, jnp.take_along_axis(change, next_frame, axis=1), change)
    return jnp.where(frames == 1, uniform_scores(tokens), motion)


def _static_change(values: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    """||e[t] - e[t-1]|| on one static grid: plain slices, no gather."""
    values = values.reshape(values.shape[0], grid[0], -1, values.shape[-1]).astype(jnp.float32)
    change = jnp.linalg.norm(values[:, 1:] - values[:, :-1], axis=-1)
    return jnp.pad(change, ((0, 0), (1, 0), (0, 0))).reshape(values.shape[0], -1)


def _traced_change(values: jax.Array, previous: jax.Array) -> jax.Array:
    values = values.astype(jnp.float32)
    before = jnp.take_along_axis(values, previous[..., None], axis=1)
    return jnp.linalg.norm(values - before, axis=-1)


def uniform_scores(tokens: Tokens) -> jax.Array:
    """Scores whose best tokens lie evenly spread over each group, whatever they show; [1, N]."""
    slots = jnp.arange(tokens.valid.shape[1], dtype=jnp.uint32)[None]
    return (slots * _GOLDEN_STEP >> 8).astype(jnp.float32)


def random_scores(tokens: Tokens, key: jax.Array) -> jax.Array:
    """Uniform scores, the random selection of the paper's ablation; [B, N] float32."""
    return jax.random.uniform(key, tokens.valid.shape)


def selection_scores(tokens: Tokens, selection: str, key: jax.Array | None = None) -> jax.Array:
    """Scores of a selection by its name; [B, N] float32.

    Args:
      tokens: embedded, without positions.
      selection: one of `SELECTIONS`.
      key: of the draw; only "random" needs one.

    Raises:
      ValueError: on an unknown name, or a random selection without a key.
    """
    if selection == "group_dynamic":
        return group_dynamic_scores(tokens)
    if selection == "uniform":
        return jnp.broadcast_to(uniform_scores(tokens), tokens.valid.shape)
    if selection != "random":
        raise ValueError(f"unknown selection {selection!r}; choose one of {SELECTIONS}")
    if key is None:
        raise ValueError("random selection needs a key")
    return random_scores(tokens, key)


def rank_tokens(tokens: Tokens, scores: jax.Array) -> Ranking:
    """Sorts tokens by (group, score descending, slot) once, for any number of budgets.

    Args:
      tokens: [B, N, D].
      scores: [B, N], of any float dtype.

    Returns:
      Order and rank [B, N] int32, number of groups [B] int32.
    """
    slots = jnp.arange(scores.shape[1], dtype=jnp.int32)[None]
    frames = tokens.grid[:, :1]
    groups = num_groups(frames)
    group_size = jnp.maximum(frames // groups, 1) * (tokens.grid[:, 1] * tokens.grid[:, 2])[:, None]
    group_size = jnp.maximum(group_size, 1)
    group = jnp.where(tokens.valid, slots // group_size, groups)  # padding sorts last
    keys = (group, -scores.astype(jnp.float32), jnp.broadcast_to(slots, scores.shape))
    _, _, order = jax.lax.sort(keys, dimension=1, is_stable=True, num_keys=2)
    return Ranking(order=order, rank=slots % group_size, groups=groups[:, 0])


def select(tokens: Tokens, ranking: Ranking, budget: int) -> Tokens:
    """Keeps the best `budget` tokens of each clip, the same number in every temporal group.

    A clip of n tokens in G groups keeps G * (min(budget, n) // G) of them; the rest of the slots
    is padding. On a static grid that number is known and no slot is padding.

    Args:
      tokens: [B, N, D].
      ranking: of these tokens.
      budget: slots to keep.

    Returns:
      Tokens [B, K, D], K = min(budget, N), in original order (fewer on a static grid, see above).

    Raises:
      ValueError: if the budget is smaller than the number of groups; where the grids are not known
        while tracing, than the most that clips within `tokens.grid_bound` may have.
    """
    n = tokens.valid.shape[1]
    if tokens.static_grid is None:
        _check_packed(tokens, ranking, budget)
    count = jnp.sum(tokens.valid, axis=1, dtype=jnp.int32)
    per_group = jnp.minimum(budget, count) // ranking.groups
    # Padding sorted last, so the first `count` entries of the ranking are the valid tokens.
    sorted_valid = jnp.arange(n)[None] < count[:, None]
    keep = (ranking.rank < per_group[:, None]) & sorted_valid
    kept = jnp.sort(jnp.where(keep, ranking.order, n), axis=1)[:, : _slots(tokens, budget)]
    padded = tokens.static_grid is None
    return gather(tokens, jnp.minimum(kept, n - 1), kept < n).replace(padded=padded)


def _slots(tokens: Tokens, budget: int) -> int:
    """Static number of slots of a selection."""
    n = tokens.valid.shape[1]
    if tokens.static_grid is None:
        return min(budget, n)
    return num_kept(tokens.static_grid[0], n, budget)


def _check_packed(tokens: Tokens, ranking: Ranking, budget: int) -> None:
    """Refuses a budget at which a clip would keep nothing."""
    if isinstance(ranking.groups, jax.core.Tracer):
        most = max(temporal_groups(frames) for frames in range(1, tokens.grid_bound[0] + 1))
        where = f"that clips of up to {tokens.grid_bound[0]} frames may have"
    else:
        most, where = int(np.max(np.asarray(ranking.groups), initial=1)), "of these clips"
    if budget < most:
        raise ValueError(
            f"budget {budget} is smaller than the {most} temporal groups {where}; give at least "
            f"{most} tokens"
        )


def temporal_groups(frames: int) -> int:
    """`num_groups` of a number that is known."""
    return next(g for g in (4, 2, 1) if g == 1 or (frames % g == 0 and frames >= 2 * g))


def num_kept(frames: int, tokens: int, budget: int) -> int:
    """How many of a clip's tokens `select` keeps: the same number in every temporal group.

    Raises:
      ValueError: if the budget is smaller than the number of groups.
    """
    groups = temporal_groups(frames)
    kept = min(budget, tokens) // groups * groups
    if kept < 1:
        raise ValueError(
            f"budget {budget} is smaller than the {groups} temporal groups of {frames} frames; "
            f"give at least {groups} tokens"
        )
    return kept


def top_places(scores: jax.Array, grid: tuple[int, int, int], budget: int) -> jax.Array:
    """The places that change most over a clip, for models that compare a place through time.

    The same number of tokens is kept in every frame, at the same places: budget // T of them, with
    the largest sums of scores over the clip; ties go to the earlier place.

    Args:
      scores: [B, T*H*W], of every token of clips on one static grid.
      grid: (T, H, W).
      budget: tokens kept a clip.

    Returns:
      [B, budget // T] int32 places row * W + column, ascending.

    Raises:
      ValueError: if the budget is smaller than the number of frames.
    """
    frames, rows, columns = grid
    count = min(budget // frames, rows * columns)
    if count < 1:
        raise ValueError(
            f"budget {budget} is smaller than the clip's {frames} frames; give at least {frames} "
            "tokens, one a frame"
        )
    totals = jnp.sum(scores.astype(jnp.float32).reshape(-1, frames, rows * columns), axis=1)
    _, places = jax.lax.top_k(totals, count)
    return jnp.sort(places, axis=1)
