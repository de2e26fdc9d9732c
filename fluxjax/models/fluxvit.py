"""FluxViT: a video ViT that runs at any token budget on any sampling grid.

Source: "Make Your Training Flexible: Towards Deployment-Efficient Video Models"
(arXiv 2503.14237) and the official repository OpenGVLab/FluxViT, single_modality.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.alignment import AlignmentDecoder
from fluxjax.models.blocks import Merging, PatchEmbed, make_blocks, remat_block
from fluxjax.models.layers import (
    Affine,
    AttentionPool,
    LayerNorm,
    check_headless,
    linear_init,
)
from fluxjax.models.placing import PositionTable, prepend_cls
from fluxjax.models.trunk import run_blocks
from fluxjax.tokens.grids import PATCH
from fluxjax.tokens.merging import check_schedule
from fluxjax.tokens.positions import sincos_3d
from fluxjax.tokens.selection import SELECTIONS, Ranking, rank_tokens, select, selection_scores
from fluxjax.tokens.tokens import IMAGENET_PIXELS, Tokens, check_patch, normalize_pixels


class BudgetOutput(NamedTuple):
    """What one budget of a Flux-Multi forward gives."""

    logits: jax.Array | None  # [B, num_classes]; None of a model without heads
    features: jax.Array  # [B, pooled], before fc_norm
    aligned: jax.Array | None  # [B, pooled], unit norm, the decoder's output; None for budget 0


class FluxViT(nn.Module):
    """FluxViT with one pooling projector and one classification head a budget.

    Attributes:
      num_classes: K; None: a tower without heads, which returns the pooled features.
      width, depth, num_heads, mlp_ratio: of the transformer; width a multiple of 16.
      grid: (T, H, W) in patches that the learned position table was made for.
      pooled: E, width of the pooled features.
      pool_heads: attention heads of the pooling projectors.
      budgets: tokens that heads 0, 1, .. are trained for, largest first. A budget is served by
        the head of the nearest one.
      patch: patch side in pixels.
      position_scale: factor on the initial sin-cos table. 1 is the reference's; from random
        weights, 2 to 4 lets the model tell the order of frames many times sooner.
      layer_scale: initial value of the layer scales; None or 0 leaves them out.
      drop_path: stochastic depth rate of the last block, rising linearly from 0.
      gelu: "tanh" (what the released weights were trained with) or "exact".
      dtype: of the computation; parameters stay float32.
      attention: back end, see `fluxjax.models.attention`.
      remat: what blocks compute again in the backward pass, see `fluxjax.models.blocks`.
      scan_blocks: whether one block is compiled for all, see `fluxjax.models.trunk`; None: on
        TPUs.
    """

    num_classes: int | None = 400
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    grid: tuple[int, int, int] = (24, 18, 18)
    pooled: int = 768
    pool_heads: int = 16
    budgets: tuple[int, ...] = (3072, 2048, 1024)
    patch: int = PATCH
    position_scale: float = 1.0
    layer_scale: float | None = 1e-5
    drop_path: float = 0.0
    gelu: str = "tanh"
    dtype: Any = jnp.float32
    attention: str = "auto"
    remat: str = "none"
    scan_blocks: bool | None = None

    pixels = IMAGENET_PIXELS
    one_grid = False
    selections = SELECTIONS
    merges = True

    def setup(self):
        """Builds the layers."""
        width = self.width
        self.patch_embed = PatchEmbed(width, dtype=self.dtype)
        self.cls_token = self.param("cls_token", linear_init, (width,))
        # The cls token has its own row, zero at the start, that grids do not touch.
        self.cls_position = self.param("cls_position", nn.initializers.zeros, (width,))
        table = lambda key: jnp.asarray(self.position_scale * sincos_3d(width, self.grid))  # noqa: E731
        self.position_table = self.param("position_table", table)
        self.gpe = Affine()
        self.blocks = make_blocks(self, remat_block(self.remat))
        heads = range(len(self.budgets))
        self.poolers = [AttentionPool(self.pooled, self.pool_heads, self.dtype) for _ in heads]
        self.fc_norm = LayerNorm(dtype=self.dtype)
        if self.num_classes is not None:
            dense = functools.partial(nn.Dense, kernel_init=linear_init, dtype=self.dtype)
            self.heads = [dense(self.num_classes) for _ in heads]
        self.decoders = [AlignmentDecoder(dtype=self.dtype) for _ in heads[1:]]

    def __call__(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None = None,
        head: int | None = None,
        return_features: bool = False,
        train: bool = False,
        merge: Sequence[float] = (),
        selection: str = "group_dynamic",
        return_tokens: bool = False,
    ) -> jax.Array | tuple[jax.Array | Tokens, ...]:
        """Classifies clips from at most `budget` of their tokens.

        Args:
          video_or_tokens: [B, T, H, W, 3] float, normalised (see `fluxjax.tokens`), or uint8; or
            `Tokens` holding pixels, each clip on its own grid.
          budget: tokens kept a clip; None keeps all.
          head: which head; None takes the one trained for the budget nearest to `budget`, head 0
            (the largest) for None.
          return_features: also return the pooled features.
          train: drop paths are active (needs rngs={"dropout": key}).
          merge: vid-TLDR's schedule: how many of the remaining tokens (below 1: which share) the
            first blocks merge, after selection; see `fluxjax.tokens.merging`.
          selection: which tokens are kept, see `tokens.selection.SELECTIONS`; "random" needs
            rngs={"selection": key}.
          return_tokens: also return the last block's tokens, see `last_tokens`.

        Returns:
          logits [B, num_classes] float32; with `return_features` also features [B, pooled]
          float32, before fc_norm. Without heads only these. With `return_tokens` also `Tokens`.

        Raises:
          ValueError: on a wrong shape, budget, head, merge schedule or selection, floats that are
            no normalised pixels, `return_features` of a model without heads, or `return_tokens`
            with a merge schedule: merged tokens have no place.
        """
        head = self.head_for(budget) if head is None else self._checked_head(head)
        embedded, positions = self.embed(video_or_tokens)
        if self.is_initializing():  # every head and decoder gets its parameters
            self._all_budgets(embedded, positions, self.budgets, train)
        (kept,) = self._kept(embedded, positions, [budget], selection)
        schedule = check_schedule(merge, self.depth, kept.valid.shape[1])
        if return_tokens and any(schedule):
            raise ValueError(f"merge={tuple(merge)} leaves tokens without places; leave it out")
        x, valid = self._trunk(*self._with_cls(kept), train, schedule)
        logits, features = self._classify(x, valid, head)
        if self.num_classes is None:
            check_headless(return_features)
        outputs = [] if logits is None else [logits]
        outputs += [features] if return_features or not outputs else []
        outputs += [last_tokens(x, kept)] if return_tokens else []
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def forward_budgets(
        self,
        video_or_tokens: jax.Array | Tokens,
        budgets: Sequence[int] | None = None,
        train: bool = False,
    ) -> list[BudgetOutput]:
        """Flux-Multi: the same clips at several budgets, one embedding and one ranking for all.

        Args:
          video_or_tokens: as in `__call__`.
          budgets: largest first, budget i by head i; None: the model's own.
          train: drop paths are active.

        Returns:
          A `BudgetOutput` for each budget, logits [B, num_classes] float32 and so on.
        """
        budgets = self.budgets if budgets is None else tuple(budgets)
        embedded, positions = self.embed(video_or_tokens)
        return self._all_budgets(embedded, positions, budgets, train)

    def embed(self, video_or_tokens: jax.Array | Tokens) -> tuple[Tokens, PositionTable]:
        """Clips as in `__call__` -> tokens [B, N, C] without positions, and the table of these."""
        if isinstance(video_or_tokens, Tokens):
            tokens = video_or_tokens
        else:
            tokens = Tokens.from_video(video_or_tokens, self.patch)
        check_patch(tokens, self.patch)
        values = self.patch_embed(normalize_pixels(tokens.values, self.pixels))
        table = PositionTable(self.gpe(self.position_table), tokens.static_grid, tokens.grid_bound)
        return tokens.replace(values=values), table

    def kept_tokens(
        self,
        video_or_tokens: jax.Array | Tokens,
        budget: int | None,
        selection: str = "group_dynamic",
    ) -> Tokens:
        """The embedded tokens [B, K, C] that `__call__` would keep; `position` says which."""
        embedded, _ = self.embed(video_or_tokens)
        if budget is None or budget >= embedded.valid.shape[1]:
            return embedded
        return select(embedded, self._ranking(embedded, selection), budget)

    def head_for(self, budget: int | None) -> int:
        """The head trained for the budget nearest to `budget`; head 0 for None."""
        if budget is None:
            return 0
        distances = [abs(budget - trained) for trained in self.budgets]
        return distances.index(min(distances))

    def frozen(self, path: Sequence[str]) -> bool:
        """Whether a parameter is not trained; all are."""
        del path
        return False

    def layer_id(self, path: Sequence[str]) -> int:
        """Layer number of a parameter for layer-wise learning-rate decay, 0 .. depth + 1.

        As in the reference: 0 for embedding, cls and position table, i + 1 for block i, the last
        for everything else (pooling, heads, and also the GPE affine).
        """
        if path[0] in ("cls_token", "cls_position", "position_table", "patch_embed"):
            return 0
        if path[0].startswith("blocks_"):
            return int(path[0].removeprefix("blocks_")) + 1
        return self.depth + 1

    def _checked_head(self, head: int) -> int:
        if not 0 <= head < len(self.budgets):
            raise ValueError(
                f"head {head} does not exist; heads 0 to {len(self.budgets) - 1} were trained "
                f"for budgets {self.budgets}"
            )
        return head

    def _all_budgets(self, embedded, positions, budgets, train) -> list[BudgetOutput]:
        if len(budgets) > len(self.budgets):
            raise ValueError(
                f"{len(budgets)} budgets {tuple(budgets)} need as many heads, the model has "
                f"{len(self.budgets)}; create it with budgets={tuple(budgets)}"
            )
        outputs = []
        for i, kept in enumerate(self._kept(embedded, positions, budgets)):
            logits, features = self._classify(*self._trunk(*self._with_cls(kept), train), i)
            aligned = self.decoders[i - 1](features) if i else None
            outputs.append(BudgetOutput(logits, features, aligned))
        return outputs

    def _ranking(self, embedded: Tokens, selection: str) -> Ranking:
        # Selection is a hard choice: no gradient flows through scores.
        fixed = jax.lax.stop_gradient(embedded)
        key = self.make_rng("selection") if selection == "random" else None
        return rank_tokens(embedded, selection_scores(fixed, selection, key))

    def _kept(
        self,
        embedded: Tokens,
        positions: PositionTable,
        budgets: Sequence[int | None],
        selection: str = "group_dynamic",
    ) -> list[Tokens]:
        """For each budget the kept tokens with positions [B, K, C]."""
        n = embedded.valid.shape[1]
        ranking = None
        if any(budget is not None and budget < n for budget in budgets):
            ranking = self._ranking(embedded, selection)
        # One look-up for all budgets: its gradient costs more than that of adding to every token.
        codes = positions.look_up(embedded).astype(self.dtype)
        placed = embedded.replace(values=embedded.values + codes)
        drops = [budget is not None and budget < n for budget in budgets]
        return [
            select(placed, ranking, budget) if drop else placed
            for budget, drop in zip(budgets, drops, strict=True)
        ]

    def _with_cls(self, tokens: Tokens) -> tuple[jax.Array, jax.Array | None]:
        """cls and tokens with positions [B, 1+N, C], and what is valid of them."""
        cls = (self.cls_token + self.cls_position).astype(self.dtype)
        return prepend_cls(cls, tokens)

    def _trunk(self, x, valid, train: bool, schedule: Sequence[float] = ()):
        """All blocks; returns the tokens that are left and their validity (None: all)."""
        if not any(schedule):
            return run_blocks(self, x, valid, train)[:2]
        mass = None
        for block, r in itertools.zip_longest(self.blocks, schedule, fillvalue=0):
            if r or mass is not None:
                merged = block(x, valid, train, Merging(r, mass))
                x, mass = merged.values, merged.mass
                valid = None if valid is None else merged.valid
            else:
                x = block(x, valid, train)
        return x, valid

    def _classify(self, x, valid, head: int) -> tuple[jax.Array | None, jax.Array]:
        features = self.poolers[head](x, valid)
        if self.num_classes is None:
            return None, features.astype(jnp.float32)
        logits = self.heads[head](self.fc_norm(features))
        return logits.astype(jnp.float32), features.astype(jnp.float32)


def last_tokens(x: jax.Array, kept: Tokens) -> Tokens:
    """Tokens after the last block, without cls, at their places: what a language model reads.

    Args:
      x: [B, 1+K or more, C], cls first.
      kept: the K tokens that went in.

    Returns:
      Values [B, K, C] float32, 0 where there is no token; places, grids and validity of `kept`.
    """
    x = x[:, 1 : kept.valid.shape[1] + 1].astype(jnp.float32)
    values = jnp.where(kept.valid[..., None], x, 0.0)
    return kept.replace(values=values)
