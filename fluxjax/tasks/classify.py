"""Video classification: plain cross-entropy, Flux-Multi and Flux-Single.

Sources: "Make Your Training Flexible" (arXiv 2503.14237), sections on Flux-Single and Flux-Multi,
and the official repository OpenGVLab/FluxViT, run_flexible_finetune.py; plain cross-entropy as in
"Frozen CLIP Models are Efficient Video Learners" (arXiv 2208.03550).

A model says of itself what the task needs to know: `patch`, `depth`, `pixels` (its statistics),
`one_grid` (it needs the sampling grid while tracing), `frozen(path)` and `layer_id(path)`. Without
an argument `budget` of its call it takes all tokens.
"""

import difflib
import inspect
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models.registry import model_fields
from fluxjax.tasks.augmentation import augmented, mixed
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.losses import flux_multi_terms, single_budget_output
from fluxjax.tasks.model_of import check_classes, model_of
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ExampleSpec, packed
from fluxjax.tokens.tokens import Tokens

METHODS = ("flux_multi", "flux_single", "cross_entropy")


class ClassifyTask:
    """Cross-entropy classification of packed clips at one or several token budgets.

    Flux-Multi runs every clip at all budgets in one step: a cross-entropy a budget, plus the
    alignment of each smaller budget's features to the largest's. Flux-Single trains one of the
    model's budgets. `cross_entropy` trains a model without heads for budgets, on all tokens or on
    `single_budget` of them.

    Attributes:
      config: see `fluxjax.config.keys.base_config`.
      model: the flax module.
      grids: sampling grids drawn in training.
      max_grid: static bound of all grids of training and evaluation.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on an unknown method or model, or budgets that cannot be used.
        """
        if config.method not in METHODS:
            near = difflib.get_close_matches(config.method, METHODS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"unknown method {config.method!r}{hint}; choose one of {METHODS}")
        self.config = config
        self.budgets = tuple(config.budgets)
        # A head for each budget.
        heads = "budgets" in model_fields(config.model.name)
        self.model = model_of(config, **({"budgets": self.budgets} if heads else {}))
        self.patch = self.model.patch
        self._takes_budget = "budget" in inspect.signature(self.model.__call__).parameters
        self._set_grids()
        self._check_budgets()

    def _set_grids(self) -> None:
        config = self.config
        self.grids = grids.fitting_grids(
            config.grids.frames,
            config.grids.resolutions,
            config.grids.min_tokens,
            config.grids.max_tokens,
            self.patch,
        )
        if self.model.one_grid and len(self.grids) > 1:
            raise ValueError(
                f"{config.model.name} trains on one sampling grid, config.grids gives "
                f"{len(self.grids)}: {', '.join(map(str, self.grids))}; leave one frame number and "
                "one resolution"
            )
        evaluated = [grids.parse_grid(text) for text in config.eval.grids]
        for grid in evaluated:
            if grid.resolution % self.patch:
                near = max(1, round(grid.resolution / self.patch)) * self.patch
                raise ValueError(
                    f"config.eval.grids: {grid} must have pixels that are a multiple of the patch "
                    f"of {self.patch}, e.g. {grid.frames}x{near}"
                )
        self.max_grid = grids.max_grid((*self.grids, *evaluated), self.patch)
        self.slots = max(grid.tokens(self.patch) for grid in (*self.grids, *evaluated))

    def _check_budgets(self) -> None:
        if self.config.method == "cross_entropy":
            if self.budgets:
                raise ValueError(
                    f"method 'cross_entropy' trains on all tokens, or on config.single_budget of "
                    f"them; set config.budgets=() instead of {self.budgets}"
                )
            self._check_single_budgets()
            return
        if list(self.budgets) != sorted(self.budgets, reverse=True):
            raise ValueError(f"budgets {self.budgets} must go from the largest to the smallest")
        if not self.budgets or self.budgets[-1] < 1 or self.budgets[0] > self.slots:
            raise ValueError(
                f"budgets {self.budgets} must lie between 1 and {self.slots}, the tokens of the "
                f"largest sampling grid; change budgets or grids"
            )

    def _check_single_budgets(self) -> None:
        """A model on one grid keeps the same number of tokens of every frame: at least one."""
        config, budget = self.config, self.config.single_budget
        if not self._takes_budget:
            if budget is not None:
                raise ValueError(
                    f"config.single_budget={budget} must be None: {config.model.name} takes all "
                    "tokens"
                )
            return
        if budget is not None and not self.grids[0].frames <= budget <= self.slots:
            raise ValueError(
                f"config.single_budget={budget} must lie between {self.grids[0].frames} and "
                f"{self.slots}: a token of every frame, and all"
            )
        frames = max(grids.parse_grid(text).frames for text in config.eval.grids)
        if min(config.eval.budgets, default=frames) < frames:
            raise ValueError(
                f"config.eval.budgets={tuple(config.eval.budgets)} must not be smaller than the "
                f"{frames} frames of config.eval.grids"
            )

    def check(self) -> None:
        """A frozen tower needs weights, and cached features the task that reads them.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        config = self.config
        random = config.init_from is None and config.pretrain is None
        blank = config.data.train.partition(":")[0] == "dummy"
        if self.model.frozen(("tower",)) and random and not blank:
            raise ValueError(
                "config.init_from=None must name an inference checkpoint, or the frozen tower "
                "keeps random weights; python -m fluxjax.convert --family clip makes one of "
                "CLIP's weights"
            )
        if config.features.dir is not None and config.task != "classify_features":
            raise ValueError(
                f"config.features.dir={config.features.dir!r} needs config.task='classify_features'"
            )

    def example(self) -> ExampleSpec:
        """One packed clip on any of the grids, and its class."""
        return packed(self.grids, self.slots, self.patch)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """One packed clip on the grid, and its class."""
        return packed((grid,), self.slots, self.patch)

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """patches [B, slots, patch*patch*3] uint8, grid [B, 3] int32, label [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan: all budgets are in the same program."""
        return (Plan(self.config.method, grid=self.grids[0] if self.model.one_grid else None),)

    def evaluators(self) -> tuple[str, ...]:
        """The table of accuracies."""
        return ("classification",)

    def eval_plans(self, grid: grids.Grid) -> dict[int | None, Plan]:
        """Those of `config.eval.budgets` that the grid can fill, largest first.

        All its tokens where it has fewer than the smallest. One program a budget serves all grids,
        unless the model needs to know the grid. A model that takes no budget has one plan, None.
        """
        known = grid if self.model.one_grid else None
        if not self._takes_budget:
            return {None: Plan("eval", grid=known)}
        tokens = grid.tokens(self.patch)
        wanted = sorted(set(self.config.eval.budgets), reverse=True)
        budgets = [budget for budget in wanted if budget <= tokens] or [tokens]
        return {budget: Plan("eval", budget, grid=known) for budget in budgets}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them.

        Raises:
          ValueError: if nothing tells the number of classes.
        """
        check_classes(self.config)
        video = jnp.zeros((1, 2, 2 * self.patch, 2 * self.patch, 3), jnp.float32)
        return self.model.init(key, video)

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`.
        """
        return start_model(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)

    def tokens(self, batch: Batch, grid: grids.Grid | None = None) -> Tokens:
        """The batch's clips as tokens of pixels [B, N, patch*patch*3], not normalised.

        They are read from `patches` and `grid`, or from dense `video` clips [B, T, H, W, 3]. With
        the static `grid` of all clips the tokens have no padding.
        """
        if "video" in batch:
            return Tokens.from_video(batch["video"], self.patch)
        if grid is not None:
            patches = batch["patches"][:, : grid.tokens(self.patch)]
            tokens = Tokens.from_patches(patches, batch["grid"], grid.shape(self.patch))
            return tokens.replace(padded=False)
        return Tokens.from_patches(batch["patches"], batch["grid"], self.max_grid)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms ce_<budget> and align_<budget>, ce without a budget; metrics top1_<budget>.

        Accuracies under mixup are counted against the unmixed label.
        """
        erase_key, mix_key, drop_key = jax.random.split(key, 3)
        config, pixels = self.config, self.model.pixels
        tokens = augmented(self.tokens(batch, plan.grid), erase_key, config, pixels)
        tokens, targets = mixed(tokens, batch["label"], mix_key, config, pixels)
        rngs = {"dropout": drop_key}
        if plan.name == "flux_multi":
            outputs = self.model.apply(
                variables, tokens, train=True, rngs=rngs, method="forward_budgets"
            )
            terms = flux_multi_terms(outputs, targets, self.budgets)
            logits = [output.logits for output in outputs]
            budgets = self.budgets
        else:
            budget = self.config.single_budget or (self.budgets or (None,))[0]
            chosen = self._budget(budget)
            logits = self.model.apply(variables, tokens, train=True, rngs=rngs, **chosen)
            return single_budget_output(logits, targets, batch["label"], budget)
        metrics = {
            f"top1_{budget}": jnp.mean(jnp.argmax(x, axis=-1) == batch["label"])
            for budget, x in zip(budgets, logits, strict=True)
        }
        return LossOutput(terms, metrics, {})

    def predict(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Logits [B, K] float32 at the plan's budget.

        Args:
          variables: of the model.
          batch: as `batch_spec` says without the labels, or {"video": [B, T, H, W, 3]}.
          plan: budget and head.
        """
        return self._apply(variables, batch, plan)

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """What the head reads at the plan's budget, [B, E] float32; `batch` as in `predict`."""
        return self._apply(variables, batch, plan, return_features=True)[1]

    def last_tokens(self, variables: Any, batch: Batch, plan: Plan) -> Tokens:
        """Tokens after the last block [B, K, C] float32, of a model that returns them."""
        return self._apply(variables, batch, plan, return_tokens=True)[-1]

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """ce: cross-entropy [B] float32 of the predictions with the labels, without smoothing."""
        log_probs = jax.nn.log_softmax(self.predict(variables, batch, plan), axis=-1)
        return {"ce": -jnp.take_along_axis(log_probs, batch["label"][:, None], axis=-1)[:, 0]}

    def _apply(self, variables: Any, batch: Batch, plan: Plan, **options: Any) -> Any:
        if plan.head is not None:
            options["head"] = plan.head
        options |= self._budget(plan.budget)
        return self.model.apply(variables, self.tokens(batch, plan.grid), **options)

    def _budget(self, budget: int | None) -> dict[str, int | None]:
        return {"budget": budget} if self._takes_budget else {}
