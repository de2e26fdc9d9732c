"""Video classification with FluxViT: Flux-Multi and Flux-Single fine-tuning.

Source: "Make Your Training Flexible" (arXiv 2503.14237), sections on Flux-Single and Flux-Multi;
official repository OpenGVLab/FluxViT, run_flexible_finetune.py.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax import grids
from fluxjax.erasing import erase
from fluxjax.mixing import mix, smooth_one_hot
from fluxjax.models import create_model
from fluxjax.models.fluxvit import BudgetOutput, layer_id
from fluxjax.photometric import jitter
from fluxjax.starting import start_fluxvit
from fluxjax.tasks.base import Batch, LossOutput, ParamGroup, Plan
from fluxjax.tokens import Tokens, normalize_pixels

METHODS = ("flux_multi", "flux_single")


class ClassifyTask:
    """Cross-entropy classification of packed clips at one or several token budgets.

    Flux-Multi runs every clip at all budgets in one step: a cross-entropy a budget, plus the
    alignment of each smaller budget's features to the largest's. Flux-Single trains one budget.

    Attributes:
      config: see `fluxjax.config.base_config`.
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
        if list(self.budgets) != sorted(self.budgets, reverse=True):
            raise ValueError(f"budgets {self.budgets} must go from the largest to the smallest")
        fields = config.model.to_dict()
        name, dtype = fields.pop("name"), fields.pop("dtype")
        fields = {key: value for key, value in fields.items() if value is not None}
        self.model = create_model(
            name, config.num_classes, budgets=self.budgets, dtype=jnp.dtype(dtype), **fields
        )
        self.patch = self.model.patch
        self.grids = grids.fitting_grids(
            config.grids.frames,
            config.grids.resolutions,
            config.grids.min_tokens,
            config.grids.max_tokens,
            self.patch,
        )
        evaluated = [grids.parse_grid(text) for text in config.eval.grids]
        self.max_grid = grids.max_grid((*self.grids, *evaluated), self.patch)
        self.slots = max(grid.tokens(self.patch) for grid in (*self.grids, *evaluated))
        if self.budgets[-1] < 1 or self.budgets[0] > self.slots:
            raise ValueError(
                f"budgets {self.budgets} must lie between 1 and {self.slots}, the tokens of the "
                f"largest sampling grid; change budgets or grids"
            )

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """patches [B, slots, patch*patch*3] uint8, grid [B, 3] int32, label [B] int32."""
        width = self.patch**2 * 3
        return {
            "patches": jax.ShapeDtypeStruct((batch_size, self.slots, width), jnp.uint8),
            "grid": jax.ShapeDtypeStruct((batch_size, 3), jnp.int32),
            "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
        }

    def plans(self) -> tuple[Plan, ...]:
        """One plan: all budgets are in the same program."""
        return (Plan(self.config.method),)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them."""
        video = jnp.zeros((1, 2, 2 * self.patch, 2 * self.patch, 3), jnp.float32)
        return self.model.init(key, video)

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of a FluxViT or InternVideo2 in their places.

        See `fluxjax.starting.start_fluxvit`.
        """
        return start_fluxvit(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of each parameter, as in the official optimizer.

        One deviation: the reference decays the scales of LPE and GPE towards 0, since they are
        stored as 5-D convolution kernels; `optim.decay_affine` keeps that for its recipe.
        """
        optim, depth = self.config.optim, self.model.depth

        def group(path, value):
            affine = path[-1] == "scale" and path[-2] in ("lpe", "gpe")
            no_decay = value.ndim <= 1 or path[-1] == "position_table"
            decay = optim.decay_affine if affine else not no_decay
            exponent = depth + 1 - layer_id(path, depth)
            return ParamGroup(decay=decay, lr_scale=optim.layer_decay**exponent)

        flat = flax.traverse_util.flatten_dict(params)
        return flax.traverse_util.unflatten_dict({p: group(p, v) for p, v in flat.items()})

    def tokens(self, batch: Batch) -> Tokens:
        """The batch's clips as tokens of pixels: `patches` and `grid`, or dense `video` clips."""
        if "video" in batch:
            return Tokens.from_video(batch["video"], self.patch)
        return Tokens.from_patches(batch["patches"], batch["grid"], self.max_grid)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms ce_<budget> and align_<budget>; metrics top1_<budget>.

        Accuracies under mixup are counted against the unmixed label.
        """
        erase_key, mix_key, drop_key = jax.random.split(key, 3)
        tokens = self._augmented(self.tokens(batch), erase_key)
        tokens, targets = self._mixed(tokens, batch["label"], mix_key)
        rngs = {"dropout": drop_key}
        if plan.name == "flux_multi":
            outputs = self.model.apply(
                variables, tokens, train=True, rngs=rngs, method="forward_budgets"
            )
            terms = flux_multi_terms(outputs, targets, self.budgets)
            logits = [output.logits for output in outputs]
            budgets = self.budgets
        else:
            budgets = (self.config.single_budget or self.budgets[0],)
            logits = [self.model.apply(variables, tokens, budgets[0], train=True, rngs=rngs)]
            terms = {f"ce_{budgets[0]}": (cross_entropy(logits[0], targets), 1.0)}
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
        return self.model.apply(variables, self.tokens(batch), plan.budget, plan.head)

    def _augmented(self, tokens: Tokens, key: jax.Array) -> Tokens:
        """Clips after colour jitter and random erasing, if the config asks for them."""
        amounts, prob = self.config.jitter.to_dict(), self.config.erasing.prob
        if not prob and not any(amounts.values()):
            return tokens
        tokens = tokens.replace(values=normalize_pixels(tokens.values))
        if any(amounts.values()):
            tokens = jitter(tokens, jax.random.fold_in(key, 1), **amounts)
        return erase(tokens, key, prob=prob) if prob else tokens

    def _mixed(self, tokens: Tokens, labels: jax.Array, key: jax.Array):
        """Clips and soft targets [B, K] after mixup or cutmix, if the config asks for them."""
        mixing, classes = self.config.mixing, self.config.num_classes
        if not mixing.prob:
            return tokens, smooth_one_hot(labels, classes, mixing.smoothing)
        tokens = tokens.replace(values=normalize_pixels(tokens.values))
        return mix(
            tokens,
            labels,
            key,
            classes,
            mixup_alpha=mixing.mixup_alpha,
            cutmix_alpha=mixing.cutmix_alpha,
            prob=mixing.prob,
            switch_prob=mixing.switch_prob,
            smoothing=mixing.smoothing,
        )


def flux_multi_terms(
    outputs: Sequence[BudgetOutput], targets: jax.Array, budgets: Sequence[int] | None = None
) -> dict[str, tuple[jax.Array, float]]:
    """Loss terms of Flux-Multi, each of weight 1.

    Args:
      outputs: one a budget, largest first.
      targets: [B, K] soft targets.
      budgets: names of the terms; positions 0, 1, .. by default.

    Returns:
      ce_<budget> for every budget and align_<budget> for all but the first, with their weights.
    """
    names = range(len(outputs)) if budgets is None else budgets
    terms = {}
    for name, output in zip(names, outputs, strict=True):
        terms[f"ce_{name}"] = (cross_entropy(output.logits, targets), 1.0)
        if output.aligned is not None:
            terms[f"align_{name}"] = (alignment(output.aligned, outputs[0].features), 1.0)
    return terms


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """mean over B of -sum_K targets * log_softmax(logits), float32; both [B, K]."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.mean(jnp.sum(targets * log_probs, axis=-1))


def alignment(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean smooth-L1 (beta 1) of the unit vectors of both [B, E]; no gradient to the teacher.

    Where no entries differ by more than 1, as in wide features, this is (1 - cosine) / E: at most
    2/768 at E = 768. The factor is the reference's.
    """
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    difference = unit(student) - jax.lax.stop_gradient(unit(teacher))
    small = jnp.abs(difference) < 1.0
    return jnp.mean(jnp.where(small, 0.5 * difference**2, jnp.abs(difference) - 0.5))
