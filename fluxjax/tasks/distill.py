"""Distillation: UMT's from images, InternVideo2's from videos, and Flux-UMT's at nested budgets.

Sources: "Unmasked Teacher" (arXiv 2303.16058) and OpenGVLab/unmasked_teacher, single_modality (CLIP
teaches frame by frame); OpenGVLab/InternVideo, InternVideo2/single_modality (one grid, one budget,
the teacher sees all tokens); "Make Your Training Flexible" (arXiv 2503.14237), Flux-UMT: flexible
grids, one pass of the teacher on a selection of tokens, and students of several budgets that share
its targets. What the last leaves open is in `fluxjax.tasks.distill_keys`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models.internvideo2 import TeacherOutput, return_layers
from fluxjax.models.students import Visible, aligned_blocks
from fluxjax.tasks.base import Batch, Constants, LossOutput, Plan, batch_spec
from fluxjax.tasks.distill_losses import Parts, aligned_parts, over_budgets
from fluxjax.tasks.distill_models import seen_by_teacher, student_model
from fluxjax.tasks.draws import example_keys
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.teacher import (
    COLLECTION,
    comes_first,
    teacher_constants,
    teacher_model,
)
from fluxjax.tasks.umt_losses import UTA_KINDS
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.race import first_of, race_noise, race_order, race_order_by_frame
from fluxjax.tokens.selection import num_kept, rank_tokens, select, selection_scores
from fluxjax.tokens.tokens import Tokens

_CHOICES = {
    "select_by": ("teacher", "student"),
    "mask": ("attention", "random", "tube"),
    "mask_over": ("clip", "frame"),
    "draws": ("nested", "independent"),
    "distance": UTA_KINDS,
    "reduce": ("mean", "sum"),
}
_NO_EFFECT = (
    ("mixing", "prob"), ("erasing", "prob"),
    *(("jitter", key) for key in ("brightness", "contrast", "saturation", "hue")),
)  # fmt: skip


class DistillTask:
    """A student learns a teacher's features of several layers, and its pooled ones.

    Attributes:
      config: see `fluxjax.config.keys.base_config`; `config.distill` has the task's own keys.
      model: the student, see `fluxjax.models.students`.
      teacher: its teacher, whose parameters are the task's constants.
      grids: sampling grids drawn in training.
      max_grid: static bound of all grids of training and evaluation.
      slots: token slots of a clip.
    """

    def __init__(self, config: ConfigDict):
        """Builds both models.

        Raises:
          FileNotFoundError: if the teacher's folder is not there.
          ValueError: on an unknown choice, models that do not fit, or budgets that cannot be used.
        """
        self.config, self.own = config, config.distill
        for key, known in _CHOICES.items():
            if self.own[key] not in known:
                raise ValueError(f"config.distill.{key}={self.own[key]!r} must be one of {known}")
        self.budgets = tuple(config.budgets)
        self.teacher = teacher_model(config)
        self.model = student_model(config, self.teacher)
        self.patch = self.model.patch
        layers, interval = len(aligned_blocks(self.model)), self.own.teacher_interval
        self.taught_layers = return_layers(self.teacher.depth, layers, interval)
        self.grids = grids.fitting_grids(
            config.grids.frames, config.grids.resolutions, config.grids.min_tokens,
            config.grids.max_tokens, self.patch,
        )  # fmt: skip
        evaluated = [grids.parse_grid(text) for text in config.eval.grids]
        self._all_grids = (*self.grids, *evaluated)
        self.max_grid = grids.max_grid(self._all_grids, self.patch)
        self.slots = max(grid.tokens(self.patch) for grid in self._all_grids)
        self._check_budgets()
        self._check_frames()

    def _check_frames(self) -> None:
        """What works frame by frame needs one grid, whole clips, and tokens of every frame."""
        by_frame = self.own.mask_over == "frame"
        if not (by_frame or self.model.one_grid or self.teacher.one_grid):
            return
        every = sorted({str(grid) for grid in self._all_grids})
        if len(every) > 1 or self.own.tokens is not None:
            raise ValueError(
                f"teacher and masks of single frames need config.distill.tokens=None and one grid "
                f"in config.grids and config.eval.grids, not {', '.join(every)}"
            )
        frames = self._all_grids[0].frames
        if by_frame and any(budget % frames for budget in self.budgets):
            raise ValueError(
                f"budgets {self.budgets} must be multiples of {frames}: with "
                "config.distill.mask_over='frame' every frame has equally many visible tokens"
            )

    def _check_budgets(self) -> None:
        most = self.slots if self.own.tokens is None else self.own.tokens
        if list(self.budgets) != sorted(self.budgets, reverse=True) or not self.budgets:
            raise ValueError(f"budgets {self.budgets} must go from the largest to the smallest")
        if self.budgets[-1] < 1 or self.budgets[0] > most:
            raise ValueError(
                f"budgets {self.budgets} must lie between 1 and the {most} tokens that the teacher "
                "sees; change budgets, distill.tokens or grids"
            )
        if most > self.slots:
            raise ValueError(
                f"config.distill.tokens={most} is more than the {self.slots} tokens of the largest "
                "sampling grid"
            )

    def check(self) -> None:
        """A teacher that teaches has weights, and nothing is asked for that has no effect.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        for grid in map(grids.parse_grid, self.config.eval.grids):
            if grid.resolution % self.patch:
                raise ValueError(
                    f"config.eval.grids: {grid} must have pixels that are a multiple of the patch "
                    f"of {self.patch}"
                )
        for section, key in _NO_EFFECT:
            if self.config[section][key]:
                raise ValueError(
                    f"config.{section}.{key}={self.config[section][key]} has no effect on task "
                    "'distill'; set it to 0.0"
                )
        if self.own.teacher is None and not comes_first(self.config) and not self.config.dry_run:
            raise ValueError(
                "config.distill.teacher=None must name the teacher's run or inference checkpoint; "
                "python -m fluxjax.convert makes one of released weights"
            )

    def example(self) -> ExampleSpec:
        """One packed clip on any of the grids, and a number for the draws."""
        return self._spec(self.grids, ("draw",))

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """One packed clip on the grid, a number for the draws, and a class for probes."""
        return self._spec((grid,), ("draw", "label"))

    def _spec(self, clip_grids: tuple[grids.Grid, ...], targets: tuple[str, ...]) -> ExampleSpec:
        clip = ClipSpec(clip_grids, slots=self.slots, patch=self.patch)
        return ExampleSpec((clip,), targets=targets)

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """patches [B, slots, patch*patch*3] uint8, grid [B, 3] int32, draw [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan: all budgets are in the same program."""
        return (Plan("distill"),)

    def evaluators(self) -> tuple[str, ...]:
        """The loss on test videos."""
        return ("held_out",)

    def eval_plans(self, grid: grids.Grid) -> dict[None, Plan]:
        """One plan for all grids."""
        return {None: Plan("eval")}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables of the student."""
        video = jnp.zeros((1, 2, 2 * self.patch, 2 * self.patch, 3), jnp.float32)
        visible = [Visible(jnp.zeros((1, 1), jnp.int32)) for _ in self.budgets]
        return self.model.init(key, video, visible, method="align")

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """A student that goes on, or starts from a released model; see `start_rules`."""
        return start_model(directory, self.model, variables)

    def constants(self) -> Constants:
        """The teacher's parameters."""
        return teacher_constants(self.own, self.teacher)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms middle and final, over all budgets; metrics middle_<budget>, final_<budget>."""
        parts = self._parts(variables, batch, train=True, rngs={"dropout": key})
        metrics = {
            f"{name}_{budget}": jnp.mean(value)
            for budget, one in zip(self.budgets, parts, strict=True)
            for name, value in one.items()
        }
        weights = {"middle": self.own.middle_weight, "final": self.own.final_weight}
        terms = {
            name: (jnp.mean(value), weights[name])
            for name, value in over_budgets(parts, self.own.reduce).items()
        }
        return LossOutput(terms, metrics, {})

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """middle_<budget> and final_<budget> of each clip, [B] float32."""
        parts = self._parts(variables, batch)
        return {
            f"{name}_{budget}": value
            for budget, one in zip(self.budgets, parts, strict=True)
            for name, value in one.items()
        }

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Pooled features of the student, [B, E] float32, from all tokens."""
        del plan
        return self.model.apply(_own(variables), self.tokens(batch), method="features")

    def tokens(self, batch: Batch) -> Tokens:
        """The batch's clips as tokens of pixels [B, N, patch*patch*3], not normalised."""
        tokens = Tokens.from_patches(batch["patches"], batch["grid"], self.max_grid)
        return tokens.replace(padded=len(set(self._all_grids)) > 1)

    def _parts(self, variables: Any, batch: Batch, train: bool = False, rngs=None) -> list[Parts]:
        """Losses [B] at each budget; the teacher is run once."""
        clips, taught = self.taught(variables, batch)
        visible = self._visible(taught.attention, clips, batch["draw"])
        aligned = self.model.apply(
            _own(variables), clips, visible, train, rngs=rngs, method="align"
        )
        pairs = zip(aligned, visible, strict=True)
        return [aligned_parts(one, taught, seen, self.own.distance) for one, seen in pairs]

    def taught(self, variables: Any, batch: Batch) -> tuple[Tokens, TeacherOutput]:
        """The tokens of pixels [B, N, D] that are seen, and what the teacher says of them."""
        clips = self._selected(variables, self.tokens(batch), batch["draw"])
        shown = seen_by_teacher(clips, self.model, self.teacher)
        taught = self.teacher.apply(_taught(variables), shown, self.taught_layers, method="teach")
        return clips, jax.lax.stop_gradient(taught)

    def _selected(self, variables: Any, clips: Tokens, draw: jax.Array) -> Tokens:
        """The tokens of pixels that the teacher sees, and of which the student sees some."""
        count, own = self.own.tokens, self.own
        if count is None or count >= clips.valid.shape[1]:
            return clips
        if own.selection == "random":
            scores = race_noise(self._keys(draw, 0), clips.valid.shape[1])
        else:
            by_teacher = own.select_by == "teacher"
            model = self.teacher if by_teacher else self.model
            weights = _taught(variables) if by_teacher else _own(variables)
            embedded, _ = model.apply(weights, clips, method="embed")
            scores = selection_scores(jax.lax.stop_gradient(embedded), own.selection)
        kept = select(clips, rank_tokens(clips, scores), count)
        # Where every grid fills all slots, no mask is needed: what is known of grids is static.
        full = all(_kept(grid, self.patch, count) == count for grid in self._all_grids)
        return kept.replace(padded=not full)

    def _visible(self, attention: jax.Array, clips: Tokens, draw: jax.Array) -> list[Visible]:
        """For each budget the tokens that the student sees."""
        weights = attention if self.own.mask == "attention" else jnp.ones_like(attention)
        nested = self.own.draws == "nested"
        orders = [
            self._order(weights, self.noise(draw, number, clips), clips)
            for number in range(1 if nested else len(self.budgets))
        ]
        count = jnp.sum(clips.valid, axis=1, keepdims=True)
        visible = []
        for number, budget in enumerate(self.budgets):
            index = first_of(orders[0 if nested else number], budget)
            valid = jnp.arange(index.shape[1])[None] < count if clips.padded else None
            visible.append(Visible(index, valid))
        return visible

    def _order(self, weights: jax.Array, noise: jax.Array, clips: Tokens) -> jax.Array:
        """[B, N] slots in the order in which the student gets to see them."""
        if self.own.mask_over == "frame":
            return race_order_by_frame(weights, noise, clips.grid_bound[0])
        return race_order(weights, noise, clips.valid)

    def noise(self, draw: jax.Array, number: int, clips: Tokens) -> jax.Array:
        """Exponential draws [B, N] of race `number`; of tubes, equal ones at equal places.

        They depend on the examples' own numbers alone, not on the batch that they are in.
        """
        keys = self._keys(draw, number + 1)
        if self.own.mask != "tube":
            return race_noise(keys, clips.valid.shape[1])
        _, rows, columns = clips.grid_bound
        place = clips.position[..., 1] * columns + clips.position[..., 2]
        return jnp.take_along_axis(race_noise(keys, rows * columns), place, axis=1)

    def _keys(self, draw: jax.Array, purpose: int) -> jax.Array:
        return example_keys(self.config.seed, draw, purpose)


def _own(variables: Any) -> dict[str, Any]:
    """The student's variables."""
    return {name: value for name, value in variables.items() if name != COLLECTION}


def _taught(variables: Any) -> dict[str, Any]:
    """The teacher's variables."""
    return {"params": variables[COLLECTION]}


def _kept(grid: grids.Grid, patch: int, count: int) -> int:
    """Tokens of a clip on a grid that a selection of `count` keeps."""
    return num_kept(grid.frames, grid.tokens(patch), count)
