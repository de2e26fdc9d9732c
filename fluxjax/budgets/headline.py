"""What a sweep says, in two sentences: which setting to run, and which within fewer tokens."""

from collections.abc import Sequence

from fluxjax.budgets.planner import (
    cheapest_within_noise,
    in_words,
    most_accurate,
    servable,
    setting_in_words,
)
from fluxjax.budgets.points import Point
from fluxjax.serving.settings import FRAMES

_SHOWN = 4  # smaller budgets


def headline(points: Sequence[Point]) -> str:
    """The recommendation, by GMACs, which hold on every machine; see `planner.plan`.

    Args:
      points: of one report.
    """
    usable = servable(points)
    if not usable:
        return "Only random selections were measured; they are comparisons, nothing to run."
    best, chosen = most_accurate(usable), cheapest_within_noise(usable)
    text = f"Run {in_words(chosen)}. "
    if chosen == best:
        text += "No setting is more accurate, and every cheaper one is significantly less so."
    else:
        text += (
            f"With {best.videos} videos no setting is significantly more accurate; the most "
            f"accurate one, {_short(best)}, costs {best.gmacs / chosen.gmacs:.2g} times the GMACs."
        )
    smaller = _within_fewer_tokens(usable, chosen)
    if smaller:
        unit = "frames" if chosen.method == FRAMES else "tokens"
        text += f" Within fewer {unit}: {'; '.join(smaller)}."
    return text


def _within_fewer_tokens(points: Sequence[Point], chosen: Point) -> list[str]:
    """The cheapest setting within the noise of the best, for each budget below the chosen one's."""
    found: dict[Point, None] = {}  # in order; two budgets may be served best by the same
    for budget in sorted({p.budget for p in points if p.budget < chosen.budget}, reverse=True):
        found[cheapest_within_noise([p for p in points if p.budget <= budget])] = None
    return [_short(point) for point in found][:_SHOWN]


def _short(point: Point) -> str:
    return f"{setting_in_words(point)} with {point.top1:.1%}"
