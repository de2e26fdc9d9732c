"""What UMT's video encoder costs at a merge schedule, in closed form."""

from collections.abc import Sequence

from fluxjax.models.umt_encoder import UmtFields
from fluxjax.tokens.merging import check_schedule, merge_count


def tokens_after_blocks(tokens: int, merge: Sequence[float], depth: int) -> tuple[int, ...]:
    """How many of `tokens` are left after each of `depth` blocks at a merge schedule."""
    left = []
    for r in check_schedule(merge, depth):
        tokens -= merge_count(tokens, r)
        left.append(tokens)
    return tuple(left)


def encoder_gmacs(
    model: UmtFields, grid: tuple[int, int, int], merge: Sequence[float] = ()
) -> float:
    """Giga multiply-accumulates of one clip: the matrix products, as papers count them.

    That is embedding, projections, attention, MLPs and the similarities that matching compares.

    Args:
      model: whose encoder runs.
      grid: (T, H, W) of the clip in tokens.
      merge: schedule, see `UmtEncoder`.
    """
    width, hidden = model.width, int(model.width * model.mlp_ratio)
    before = grid[0] * grid[1] * grid[2]
    total = before * width * model.tubelet * model.patch**2 * 3
    for after in tokens_after_blocks(before, merge, model.depth):
        total += 4 * before * width**2 + 2 * before**2 * width  # projections, attention
        if after < before:
            total += (before - before // 2) * (before // 2) * width  # even with odd places
        total += 2 * after * width * hidden
        before = after
    return total / 1e9
