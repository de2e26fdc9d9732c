"""What the tasks on UMT's models of video and text have in common."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.models.umt import Umt
from fluxjax.tasks.base import Batch, Plan, batch_spec
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.umt_terms import Texts
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.merging import check_schedule


def text_keys(length: int) -> ConfigDict:
    """Config keys of a task on UMT; `length` token ids a text."""
    own = ConfigDict()
    own.vocabulary = ""  # BERT's vocab.txt, a tokenizer.json or demo:captions
    own.length = length  # token ids a text (data_pipelines.text.bert has those of the data sets)
    return own


class UmtTask:
    """A `Umt` on dense clips of one sampling grid, each with a text.

    Attributes:
      config: see `fluxjax.config.keys.base_config`.
      own: `config.<task>`, see `text_keys`.
      model: a `Umt`.
      grid: the sampling grid of training.
      merge: vid-TLDR's schedule, of training and evaluation.
    """

    def __init__(self, config: ConfigDict, **fields: Any):
        """Builds the model.

        Args:
          config: the run's.
          **fields: of the model, that the task sets.

        Raises:
          ValueError: on another model, more than one sampling grid, or a wrong merge schedule.
        """
        self.config, self.own = config, config[config.task]
        given = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = given.pop("name"), jnp.dtype(given.pop("dtype"))
        self.model = create_model(name, None, dtype=dtype, **given)
        if not isinstance(self.model, Umt) or self.model.embedding is None:
            raise ValueError(
                f"task {config.task!r} needs a model of video and text with projections, such as "
                f"umt_b16; config.model.name={name!r} has none"
            )
        self.model = self.model.clone(**fields)
        self.grid = grids.only_grid(config.grids.frames, config.grids.resolutions, name)
        self.merge = check_schedule(tuple(self.own.get("merge", ())), self.model.depth)

    def check(self) -> None:
        """Asks for a vocabulary, and for grids that are multiples of the patch.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        task = self.config.task
        if not self.own.vocabulary:
            raise ValueError(
                f"config.{task}.vocabulary='' must name BERT's vocab.txt or a tokenizer.json"
            )
        for grid in (self.grid, *map(grids.parse_grid, self.config.eval.grids)):
            grids.check_patch(grid, self.model.patch)
        for key, off in (("mixing", "prob"), ("erasing", "prob")):
            if self.config[key][off]:
                raise ValueError(
                    f"config.{key}.{off}={self.config[key][off]} has no effect on task "
                    f"{task!r}; set it to 0.0"
                )

    def example(self) -> ExampleSpec:
        """A dense clip, a text, and the group of equal texts."""
        return self.eval_example(self.grid)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """As `example`, on a grid."""
        clip = ClipSpec((grid,), patch=self.model.patch)
        return ExampleSpec((clip,), self.text_spec("bert", self.own.length), targets=("group",))

    def text_spec(self, kind: str, length: int) -> TextSpec:
        """Texts of a length for a kind of tokenizer, see `data_pipelines.text.kinds`."""
        return TextSpec(length, self.own.vocabulary, kind, self.model.vocabulary)

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """video [B, T, H, W, 3] uint8, text [B, L], text_length [B] and group [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan."""
        return (Plan(self.config.task, grid=self.grid),)

    def eval_plans(self, grid: grids.Grid) -> dict[None, Plan]:
        """One plan a grid."""
        return {None: Plan("eval", grid=grid)}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them."""
        side = 2 * self.model.patch
        return self.model.init(key, jnp.zeros((1, self.model.tubelet, side, side, 3)))

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`.
        """
        return start_model(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)


def texts_of(batch: Batch) -> Texts:
    """The texts of a batch: text [B, L] int32, and the mask of text_length [B]."""
    places = jnp.arange(batch["text"].shape[1])
    return Texts(batch["text"], (places < batch["text_length"][:, None]).astype(jnp.int32))
