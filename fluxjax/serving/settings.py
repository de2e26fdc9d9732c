"""How a trained model is run on a clip: grid, tokens kept, the way they are chosen, and the head.

A `Setting` is what the planner returns, the sweep measures, `predict` uses and `export` compiles.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.checkpoints.starting import starting_from
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.selection import SELECTIONS, num_kept, temporal_groups
from fluxjax.tokens.tokens import Tokens

SELECT_AND_MERGE = "group_dynamic+merge"
MERGING = ("merge", SELECT_AND_MERGE)  # vid-TLDR on all tokens, or on those of a selection
FRAMES = "frames"  # dense clips: a budget is a number of frames
# "places": the same places in every frame; "none": all tokens of the grid, nothing is dropped.
METHODS = (*SELECTIONS, "places", *MERGING, FRAMES, "none")

KEPT_TO_MERGE = 2  # a selection keeps this many times the budget, merging does the rest
MERGING_BLOCKS = 3  # the first ones, as in vid-TLDR; more where that would be over half in one


class UnmergeableError(ValueError):
    """So many tokens cannot be merged to so few in a model of this depth."""


class Setting(NamedTuple):
    """One way to run a model; hashable, so that programs can be kept by it.

    Attributes:
      grid: sampling grid of the clip.
      budget: tokens that go through the transformer, at most those of the grid; with merging,
        those that are left once the first blocks have merged; of dense clips, their frames.
      method: one of `METHODS`; "none" exactly where the budget is all tokens.
      head: number of the head that answers.
    """

    grid: Grid
    budget: int
    method: str
    head: int

    def __str__(self) -> str:
        if self.method == FRAMES:
            return f"{self.grid}, all of its pixels"
        how = "all" if self.method == "none" else self.method
        return f"{self.grid}, {self.budget} tokens ({how}), head {self.head}"


def takes_frames(model: nn.Module) -> bool:
    """Whether a model takes dense clips of any number of frames; others take patches as tokens."""
    return hasattr(model, "frames") and not hasattr(model, "patch")


def size_of(model: nn.Module, grid: Grid) -> int:
    """Of a grid's clips: tokens, or frames where the model takes dense clips."""
    return grid.frames if takes_frames(model) else grid.tokens(model.patch)


def budgets_of(model: nn.Module) -> tuple[int | None, ...]:
    """The budgets that a model was made for: tokens, or frames; (None,) where it names none."""
    return tuple(model.frames if takes_frames(model) else getattr(model, "budgets", (None,)))


def methods_of(model: nn.Module) -> tuple[str, ...]:
    """The methods of `METHODS` that a model can be run with, its own choice first.

    A classifier without budgets has one, "none": it takes all tokens.

    Raises:
      ValueError: if it has neither budgets nor classes.
    """
    if takes_frames(model):
        return (FRAMES,)
    if _has_budgets(model):
        return (*model.selections, *(MERGING if model.merges else ()), "none")
    if model.num_classes is None:
        able = [kind.__name__ for kind in starting_from(model) if _has_budgets(kind)]
        raise ValueError(
            f"a {type(model).__name__} without classes predicts nothing; train a "
            f"{' or '.join(able) or 'classifier'} from it (config.init_from)"
        )
    return ("none",)


def _has_budgets(model: nn.Module | type[nn.Module]) -> bool:
    return hasattr(model, "head_for")


def make_setting(
    model: nn.Module, grid: Grid, budget: int | None = None, method: str | None = None
) -> Setting:
    """The setting for a budget on a grid, with the head trained for the nearest budget.

    Args:
      model: with token budgets, such as a FluxViT or an Evl, or any classifier.
      grid: sampling grid.
      budget: tokens to keep. None, or as many as the grid has: all, and the method is "none". Of a
        model that takes dense clips: frames of the grid to take instead of all.
      method: one of `methods_of(model)`, None for its first; with "none" the budget does not
        matter.

    Raises:
      ValueError: on a method that the model does not have, a budget below the smallest one or of a
        model that has none, a grid that the model's patches do not fill, or a model that
        predicts nothing.
      UnmergeableError: if the model has too few blocks to merge that much.
    """
    methods = methods_of(model)
    if method is None and methods == ("none",):
        _check_no_budget(model, grid, budget)
    method = methods[0] if method is None else method
    if method not in methods:
        raise ValueError(f"unknown method {method!r}; choose one of {methods}")
    if method == FRAMES:
        return _frames_setting(grid, budget)
    if grid.resolution % model.patch:
        below = max(grid.resolution // model.patch, 1) * model.patch
        raise ValueError(
            f"grid {grid}: {grid.resolution} pixels are not a multiple of the model's patch of "
            f"{model.patch}; e.g. {grid.frames}x{below} is"
        )
    smallest = smallest_budget(grid, method)
    if budget is not None and budget < smallest:
        raise ValueError(f"budget {budget} is too small for {grid} ({method}): at least {smallest}")
    tokens = grid.tokens(model.patch)
    if method == "none" or budget is None or budget >= tokens:
        return Setting(grid, tokens, "none", model.head_for(tokens) if _has_budgets(model) else 0)
    if method == SELECT_AND_MERGE and KEPT_TO_MERGE * budget >= tokens:
        method = "merge"  # there is nothing to drop before
    setting = Setting(grid, budget, method, model.head_for(budget))
    merge_schedule(model, setting)  # raises where it cannot be done
    return setting


def _check_no_budget(model: nn.Module, grid: Grid, budget: int | None) -> None:
    tokens = grid.tokens(model.patch)
    if budget is not None and budget < tokens:
        raise ValueError(
            f"budget {budget}: a {type(model).__name__} has no token budgets and takes all "
            f"{tokens} of {grid}; leave the budget out"
        )


def _frames_setting(grid: Grid, budget: int | None) -> Setting:
    frames = grid.frames if budget is None else budget
    if not 1 <= frames <= grid.frames:
        raise ValueError(f"budget {budget} must be 1 to {grid.frames}, the frames of {grid}")
    return Setting(grid._replace(frames=frames), frames, FRAMES, 0)


def smallest_budget(grid: Grid, method: str) -> int:
    """Tokens that a method keeps at least: of each temporal group, of each frame, or one."""
    if method == "places":
        return grid.frames
    if method == SELECT_AND_MERGE:
        return -(-temporal_groups(grid.frames) // KEPT_TO_MERGE)
    return temporal_groups(grid.frames) if method in SELECTIONS else 1


def selected(model: nn.Module, setting: Setting) -> tuple[int, str] | None:
    """(tokens kept, selection) before the first block; None where all tokens enter it."""
    if setting.method in ("none", "merge"):
        return None
    if setting.method == SELECT_AND_MERGE:
        tokens = setting.grid.tokens(model.patch)
        wanted = KEPT_TO_MERGE * setting.budget
        return num_kept(setting.grid.frames, tokens, wanted), "group_dynamic"
    return setting.budget, setting.method


def merge_schedule(model: nn.Module, setting: Setting) -> tuple[int, ...]:
    """How many tokens each of the first blocks merges, () without merging.

    Every block keeps about the same share, so that the first one merges most, as in vid-TLDR's
    published schedules; none can merge more than half of its tokens.

    Raises:
      UnmergeableError: if even halving them in every block would leave more than the budget.
    """
    if setting.method not in MERGING:
        return ()
    entering = selected(model, setting)
    tokens = setting.grid.tokens(model.patch) if entering is None else entering[0]
    for blocks in range(min(MERGING_BLOCKS, model.depth), model.depth + 1):
        share, left, schedule = (setting.budget / tokens) ** (1 / blocks), tokens, []
        for number in range(1, blocks + 1):
            aim = setting.budget if number == blocks else int(tokens * share**number)
            merged = min(max(left - aim, 0), left // 2)
            schedule.append(merged)
            left -= merged
        if left <= setting.budget:
            return tuple(schedule)
    raise UnmergeableError(
        f"{tokens} tokens cannot be merged to {setting.budget} in {model.depth} blocks, each of "
        "which leaves at least half; use a larger budget or a smaller grid"
    )


def forward(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: jax.Array | Tokens,
    setting: Setting,
    key: jax.Array | None = None,
    return_features: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Logits [B, K] float32 of clips on the setting's grid; see `FluxViT.__call__`.

    Args:
      model: the module.
      variables: of the model.
      clips: [B, T, H, W, 3], uint8 or normalised floats, or tokens of pixels.
      setting: how to run it.
      key: of the draw; only the method "random" needs one.
      return_features: also return the pooled features [B, E] float32.
    """
    return model.apply(
        variables,
        clips,
        return_features=return_features,
        rngs={"selection": key} if setting.method == "random" else None,
        **_options(model, setting),
    )


def served_part(
    model: nn.Module, variables: Mapping[str, Any], setting: Setting
) -> tuple[nn.Module, Mapping[str, Any]]:
    """The part of a model that a setting runs, and its variables; the model itself by default.

    A model that has a smaller one in it for a number of frames gives that by its
    `export_branch(variables, frames)`.
    """
    if not hasattr(model, "export_branch"):
        return model, variables
    return model.export_branch(variables, setting.grid.frames)


def token_groups(
    model: nn.Module,
    variables: Mapping[str, Any],
    clips: jax.Array,
    setting: Setting,
    key: jax.Array | None = None,
) -> jax.Array:
    """What becomes of every token of dense clips; [B, T, H, W] int32, in patches.

    -1 for tokens that are dropped; tokens that end up merged into one share a number.

    Args:
      model: the module.
      variables: of the model.
      clips: [B, T, H, W, 3], uint8 or normalised floats.
      setting: how to run it.
      key: of the draw; only the method "random" needs one.

    Raises:
      ValueError: if the model has no tokens.
    """
    if setting.method == FRAMES or not _has_budgets(model):
        raise ValueError(f"a {type(model).__name__} drops no tokens: every pixel counts")
    rngs = {"selection": key} if setting.method == "random" else None
    count, name = selected(model, setting) or (None, model.selections[0])
    kept = model.apply(variables, clips, count, name, rngs=rngs, method="kept_tokens")
    group = jnp.broadcast_to(jnp.arange(kept.valid.shape[1], dtype=jnp.int32), kept.valid.shape)
    if setting.method in MERGING:
        _, state = model.apply(
            variables, clips, mutable="intermediates", **_options(model, setting)
        )
        group = group + 1  # the first place is that of the cls token
        for block in range(len(merge_schedule(model, setting))):
            (assignment,) = state["intermediates"][f"blocks_{block}"]["assignment"]
            group = jnp.take_along_axis(assignment, group, axis=1)
    shape = setting.grid.shape(model.patch)
    rows = jnp.arange(len(clips))[:, None]
    empty = jnp.full((len(clips), *shape), -1, jnp.int32)
    return empty.at[rows, *jnp.moveaxis(kept.position, -1, 0)].set(group)


def _options(model: nn.Module, setting: Setting) -> dict[str, Any]:
    """Arguments of the model's call."""
    if setting.method == FRAMES or not _has_budgets(model):
        return {}
    budget, selection = selected(model, setting) or (None, model.selections[0])
    options: dict[str, Any] = {"budget": budget, "head": setting.head, "selection": selection}
    if model.merges:
        options["merge"] = merge_schedule(model, setting)
    return options
