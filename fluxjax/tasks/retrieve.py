"""Retrieval: videos and captions in one space, and whether a pair matches (UMT's VTC and VTM).

Source: OpenGVLab/unmasked_teacher, multi_modality, tasks/retrieval.py; captions of one video are no
wrong partners of each other.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.models.umt import Umt
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.umt_terms import Texts, retrieval_terms
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.merging import check_schedule


def keys() -> ConfigDict:
    """What only this task has: `config.retrieve`."""
    own = ConfigDict()
    own.vocabulary = ""  # BERT's vocab.txt or a tokenizer.json
    own.length = 32  # token ids a caption (data_pipelines.text.bert has those of the data sets)
    own.merge = ()  # tokens that the first blocks merge, below 1 their share; (): none
    return own


class RetrieveTask:
    """Contrast of videos and captions, and matching with hard negatives.

    Attributes:
      config: see `fluxjax.config.keys.base_config` and `keys`.
      model: a `Umt` with projections.
      grid: the sampling grid of training.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on another model, more than one sampling grid, or a wrong merge schedule.
        """
        self.config, self.own = config, config.retrieve
        fields = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
        self.model = create_model(name, None, dtype=dtype, **fields)
        if not self.runs(self.model):
            raise ValueError(
                f"task 'retrieve' needs a model of video and text with projections, such as "
                f"umt_b16; config.model.name={name!r} has none"
            )
        every = [
            grids.Grid(frames, side)
            for frames in config.grids.frames
            for side in config.grids.resolutions
        ]
        if len(every) != 1:
            raise ValueError(
                f"{name} trains on one sampling grid, config.grids gives {len(every)}: leave one "
                "frame number and one resolution"
            )
        (self.grid,) = every
        self.merge = check_schedule(tuple(self.own.merge), self.model.depth)

    @staticmethod
    def runs(model: nn.Module) -> bool:
        """Whether a model is a UMT that projects videos and captions into one space."""
        return isinstance(model, Umt) and model.embedding is not None

    def check(self) -> None:
        """Asks for a vocabulary, and for grids that are multiples of the patch.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        if not self.own.vocabulary:
            raise ValueError(
                "config.retrieve.vocabulary='' must name BERT's vocab.txt or a tokenizer.json"
            )
        for grid in (self.grid, *map(grids.parse_grid, self.config.eval.grids)):
            if grid.resolution % self.model.patch:
                raise ValueError(
                    f"grid {grid} must have pixels that are a multiple of the patch of "
                    f"{self.model.patch}"
                )
        for key, off in (("mixing", "prob"), ("erasing", "prob")):
            if self.config[key][off]:
                raise ValueError(
                    f"config.{key}.{off}={self.config[key][off]} has no effect on task "
                    "'retrieve'; set it to 0.0"
                )

    def example(self) -> ExampleSpec:
        """A dense clip, a caption, and the group of equal captions."""
        return self.eval_example(self.grid)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """As `example`, on a grid."""
        clip = ClipSpec((grid,), patch=self.model.patch)
        text = TextSpec(self.own.length, self.own.vocabulary, "bert", self.model.vocabulary)
        return ExampleSpec((clip,), text, targets=("group",))

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """video [B, T, H, W, 3] uint8, text [B, L], text_length [B] and group [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan."""
        return (Plan("retrieve", grid=self.grid),)

    def evaluators(self) -> tuple[str, ...]:
        """Ranks of the right partners."""
        return ("retrieval",)

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

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms vtc and vtm, of weight 1 each; the temperature is reported."""
        del plan
        terms = retrieval_terms(
            self.model, variables, batch["video"], self._texts(batch), batch["group"], key,
            self.merge,
        )  # fmt: skip
        temperature = self.model.apply(variables, method="clamped_temperature")
        weighted = {name: (value, 1.0) for name, value in terms.items()}
        return LossOutput(weighted, {"temperature": temperature}, {})

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips in the space that they share with captions: [B, E] float32, unit norm."""
        del plan
        return self.model.apply(variables, batch["video"], merge=self.merge)

    def embed_text(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Captions in that space: [B, E] float32, unit norm."""
        del plan
        text = self.model.apply(variables, *self._texts(batch), method="encode_text")
        return self.model.apply(variables, text, method="project_text")

    def _texts(self, batch: Batch) -> Texts:
        places = jnp.arange(batch["text"].shape[1])
        return Texts(batch["text"], (places < batch["text_length"][:, None]).astype(jnp.int32))
