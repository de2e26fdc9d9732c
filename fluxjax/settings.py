"""How a trained model is run on a clip: grid, tokens kept, the way they are chosen, and the head.

A `Setting` is what the planner returns, the sweep measures, `predict` uses and `export` compiles.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from fluxjax.grids import Grid
from fluxjax.selection import SELECTIONS
from fluxjax.tokens import Tokens

METHODS = (*SELECTIONS, "none")  # "none": all tokens of the grid, nothing is dropped


class Setting(NamedTuple):
    """One way to run a model; hashable, so that programs can be kept by it.

    Attributes:
      grid: sampling grid of the clip.
      budget: tokens that go through the transformer, at most those of the grid.
      method: one of `METHODS`; "none" exactly where the budget is all tokens.
      head: number of the head that answers.
    """

    grid: Grid
    budget: int
    method: str
    head: int

    def __str__(self) -> str:
        how = "all" if self.method == "none" else self.method
        return f"{self.grid}, {self.budget} tokens ({how}), head {self.head}"


def make_setting(
    model: nn.Module, grid: Grid, budget: int | None = None, method: str = "group_dynamic"
) -> Setting:
    """The setting for a budget on a grid, with the head trained for the nearest budget.

    Args:
      model: with token budgets, such as a FluxViT.
      grid: sampling grid.
      budget: tokens to keep. None, or as many as the grid has: all, and the method is "none".
      method: one of `METHODS`; with "none" the budget does not matter.

    Raises:
      ValueError: on an unknown method, a budget below one, a grid that the model's patches do not
        fill, or a model without budgets.
    """
    if not hasattr(model, "head_for"):
        raise ValueError(
            f"a {type(model).__name__} has no token budgets; train a FluxViT from it "
            "(config.init_from)"
        )
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {METHODS}")
    if grid.resolution % model.patch:
        below = max(grid.resolution // model.patch, 1) * model.patch
        raise ValueError(
            f"grid {grid}: {grid.resolution} pixels are not a multiple of the model's patch of "
            f"{model.patch}; e.g. {grid.frames}x{below} is"
        )
    if budget is not None and budget < 1:
        raise ValueError(f"budget {budget} must be at least one token")
    tokens = grid.tokens(model.patch)
    if method == "none" or budget is None or budget >= tokens:
        return Setting(grid, tokens, "none", model.head_for(tokens))
    return Setting(grid, budget, method, model.head_for(budget))


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
    options = {} if setting.method == "none" else {"selection": setting.method}
    return model.apply(
        variables,
        clips,
        None if setting.method == "none" else setting.budget,
        setting.head,
        return_features=return_features,
        rngs={"selection": key} if setting.method == "random" else None,
        **options,
    )
