"""What the trainer, the evaluator and the exporter know of a task."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from fluxjax.tokens.examples import ExampleSpec
from fluxjax.tokens.grids import Grid


@dataclasses.dataclass(frozen=True)
class ParamGroup:
    """How the optimizer treats one parameter.

    Attributes:
      frozen: no gradient and no optimizer state.
      decay: weight decay applies.
      lr_scale: factor on the learning rate (layer decay).
      bounds: lowest and highest value, that an update does not cross; None: there are none.
    """

    frozen: bool = False
    decay: bool = True
    lr_scale: float = 1.0
    bounds: tuple[float, float] | None = None


class LossOutput(NamedTuple):
    """Result of `Task.loss`.

    Attributes:
      terms: name -> (value, weight), scalars; the loss is the weighted sum.
      metrics: name -> scalar to report, such as accuracies.
      mutable: new values of the mutable collections (batch statistics), {} without any.
    """

    terms: Mapping[str, tuple[jax.Array, float]]
    metrics: Mapping[str, jax.Array]
    mutable: Mapping[str, Any]

    @property
    def total(self) -> jax.Array:
        """The weighted sum of the terms, [] float32."""
        return sum(value * weight for value, weight in self.terms.values())


class Constants(NamedTuple):
    """Arrays that a task reads and no step changes, such as the weights of a teacher.

    They are given to the task among the variables, beside the collections of its model, and lie on
    the mesh as parameters do. They are no part of the state: no gradient, no optimizer state, no
    copy in checkpoints.

    Attributes:
      shapes: collection -> nested dict of `jax.ShapeDtypeStruct`.
      load: gives these arrays.
    """

    shapes: Mapping[str, Any] = types.MappingProxyType({})
    load: Callable[[], Mapping[str, Any]] = dict


class Plan(NamedTuple):
    """A static choice that is compiled into a program.

    Attributes:
      name: shown in logs.
      budget: tokens kept a clip, None for all; for training plans, those of the task apply.
      head: which head answers, None for the nearest budget's.
      grid: sampling grid of every clip, for models that need it while tracing; None: it is data.
    """

    name: str
    budget: int | None = None
    head: int | None = None
    grid: Grid | None = None


Batch = Mapping[str, jax.Array]


class Task(Protocol):
    """One objective: its model, its loss and what it predicts. A paper is a task and a config.

    Evaluators ask for some of the methods only: `predict` for classification tables, `features`
    for probes, `losses` for held-out loss, `embed_video` and `embed_text` for retrieval and
    zero-shot classification, these with `video_states`, `text_states` and `match` for re-ranked
    retrieval. A task has those that its `evaluators` need.
    """

    config: ConfigDict
    model: nn.Module

    def check(self) -> None:
        """Refuses a config that cannot train, before anything is read or compiled.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """

    def example(self) -> ExampleSpec:
        """What training wants of a video."""

    def eval_example(self, grid: Grid) -> ExampleSpec:
        """What evaluation on a sampling grid wants of a video."""

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a training batch; `batch_spec(self.example(), ..)` for most."""

    def plans(self) -> tuple[Plan, ...]:
        """Training plans, all known before step 1; step s uses plan s modulo their number."""

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables."""

    def start_from(self, directory: str, variables: Any) -> Any:
        """Fresh variables with the parameters of an inference checkpoint in their places."""

    def constants(self) -> Constants:
        """What it reads beside the variables; a task without constants has no such method."""

    def groups(self, params: Any) -> Any:
        """A tree like `params` of `ParamGroup`."""

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Loss terms of a batch; explicit `key` for every random draw."""

    def evaluators(self) -> tuple[str, ...]:
        """Names of what is measured, see `fluxjax.evaluation.registry`; the first is the main."""

    def eval_plans(self, grid: Grid) -> Mapping[int | None, Plan]:
        """Budget -> the plan to predict with on a grid; equal plans share one compiled program.

        Models without token budgets have one plan, of budget None.
        """

    def predict(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Logits [B, K] float32 of a batch, without randomness."""

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """What a probe reads: [B, E] float32, without randomness."""

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips in the space that they share with texts: [B, E], without randomness; any norm."""

    def embed_text(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Texts in that space: [B, E] of a batch of text [B, L] and text_length [B] alone."""

    def video_states(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Tokens of clips [B, N, C], which `match` compares with texts; without randomness."""

    def text_states(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Tokens of texts [B, L, C], likewise, of a batch as of `embed_text`."""

    def match(
        self, variables: Any, text: jax.Array, mask: jax.Array, video: jax.Array, plan: Plan
    ) -> jax.Array:
        """Logits [B, 2] that texts and videos match (1).

        Of text [B, L, C], mask [B, L] and video [B / R, N, C], each for R texts in a row.
        """

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """Held-out loss: name -> [B] float32, a value for every example, without randomness."""


def constants_of(task: Task) -> Constants:
    """What a task's `constants` gives; nothing of a task without that method, as most are."""
    return getattr(task, "constants", Constants)()


def batch_spec(example: ExampleSpec, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a batch of examples: name -> [B, ..]."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
        for name, (shape, dtype) in example.arrays().items()
    }
