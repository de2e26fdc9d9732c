"""Videos and captions in one space: contrastive and max-margin training of dual encoders.

Sources: AVION (arXiv 2309.16669), scripts/main_lavila_pretrain.py and
scripts/main_lavila_finetune_mir.py of zhaoyue-zephyrus/AVION.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.contrastive import contrastive_loss, max_margin_loss
from fluxjax.tasks.micro_batches import in_parts
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec

LOSSES = ("contrastive", "max_margin")


def keys() -> ConfigDict:
    """What only this task has: `config.contrast`."""
    own = ConfigDict()
    own.vocabulary = ""  # CLIP's bpe_simple_vocab_16e6.txt.gz, a tokenizer.json or demo:captions
    own.tokenizer = "clip"  # kind of tokenizer that reads it, see data_pipelines.text.kinds
    own.context = placeholder(int)  # token ids a caption; None: as many as the model has places
    own.loss = "contrastive"  # or max_margin, as EK100 retrieval is fine-tuned
    own.margin = 0.2  # of max_margin
    own.relevancy = False  # True: margins times how well a caption fits, of data that grade them
    own.chunk = placeholder(int)  # rows of the table of pairs at a time; None: the whole table
    own.parts = 1  # parts of a batch that are embedded one after the other, in less memory
    return own


class ContrastTask:
    """A dual encoder of dense clips and captions; every pair of the global batch counts.

    Attributes:
      config: see `fluxjax.config.keys.base_config` and `keys`.
      model: the flax module, such as `fluxjax.models.avion.Avion`.
      grid: sampling grid of the clips in training.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on an unknown model or loss, a model without text tower, or several grids.
        """
        self.config, self.own = config, config.contrast
        fields = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
        self.model = create_model(name, None, dtype=dtype, **fields)
        if not self.runs(self.model):
            raise ValueError(
                f"task 'contrast' needs a model of videos and texts, such as avion_b16; "
                f"config.model.name={name!r} has no text tower"
            )
        found = grids.fitting_grids(
            config.grids.frames,
            config.grids.resolutions,
            config.grids.min_tokens,
            config.grids.max_tokens,
            self.model.patch,
        )
        if len(found) > 1:
            raise ValueError(
                f"task 'contrast' trains on one sampling grid, config.grids gives "
                f"{', '.join(map(str, found))}; leave one frame number and one resolution"
            )
        self.grid = found[0]

    @staticmethod
    def runs(model: nn.Module) -> bool:
        """Whether a model embeds clips and captions, and scales what they have in common."""
        if model.num_classes is not None or getattr(model, "embedding", None) is None:
            return False
        return hasattr(model, "encode_text") and hasattr(model, "context_length")

    def check(self) -> None:
        """Refuses what cannot be trained with, and keys without effect.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        own, config = self.own, self.config
        if not own.vocabulary:
            raise ValueError(
                "config.contrast.vocabulary='' must name a vocabulary: CLIP's "
                "bpe_simple_vocab_16e6.txt.gz (in clip/ of github.com/openai/CLIP), a "
                "tokenizer.json, or demo:captions for the demo corpus"
            )
        if own.loss not in LOSSES:
            raise ValueError(f"config.contrast.loss={own.loss!r} must be one of {LOSSES}")
        if own.relevancy and own.loss != "max_margin":
            raise ValueError(
                f"config.contrast.relevancy=True needs config.contrast.loss='max_margin', whose "
                f"margins it scales, not {own.loss!r}"
            )
        if own.parts < 1 or config.batch_size % own.parts:
            raise ValueError(
                f"config.contrast.parts={own.parts} must divide batch_size={config.batch_size}"
            )
        if own.chunk is not None and own.chunk < 1:
            raise ValueError(f"config.contrast.chunk={own.chunk} must be at least 1")
        if own.context is not None and not 3 <= own.context <= self.model.context_length:
            raise ValueError(
                f"config.contrast.context={own.context} must lie between 3 and the model's "
                f"{self.model.context_length} (config.model.context_length)"
            )
        for text in config.eval.grids:
            if (grid := grids.parse_grid(text)).resolution % self.model.patch:
                raise ValueError(
                    f"config.eval.grids: {grid} must have pixels that are a multiple of the patch "
                    f"of {self.model.patch}"
                )
        for key in ("mixing", "erasing"):
            if config[key].prob:
                raise ValueError(
                    f"config.{key}.prob={config[key].prob} has no effect on task 'contrast'; set "
                    "it to 0.0"
                )
        if any(config.jitter.values()):
            raise ValueError("config.jitter has no effect on task 'contrast'; set it to 0.0")

    def example(self) -> ExampleSpec:
        """A dense clip and one of its captions, and how well that fits where margins ask for it."""
        targets = ("relevancy",) if self.own.relevancy else ()
        return dataclasses.replace(self.eval_example(self.grid), targets=targets)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """A dense clip on the grid and one of its captions."""
        own = self.own
        text = TextSpec(
            own.context or self.model.context_length,
            own.vocabulary,
            own.tokenizer,
            self.model.vocab_size,
        )
        return ExampleSpec((ClipSpec((grid,), patch=self.model.patch),), text, targets=())

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """video [B, T, H, W, 3] uint8, text [B, L] int32, text_length [B] int32.

        With `relevancy` also that, [B] float32.
        """
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan."""
        return (Plan(self.own.loss, grid=self.grid),)

    def evaluators(self) -> tuple[str, ...]:
        """Retrieval in both directions; with named classes zero-shot classification can join."""
        return ("retrieval",)

    def eval_plans(self, grid: grids.Grid) -> dict[None, Plan]:
        """One plan a grid."""
        return {None: Plan("eval", grid=grid)}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them."""
        side = 2 * self.model.patch
        ids = jnp.zeros((1, self.model.context_length), jnp.int32)
        return self.model.init(key, jnp.zeros((1, 2, side, side, 3), jnp.float32), ids)

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`.
        """
        return start_model(directory, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """The plan's loss over all pairs; metric top1: whose own caption is the nearest.

        Batches of several parts embed one part after the other (`micro_batches.in_parts`).
        """
        own = self.own

        def encode(part: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            rngs = {"dropout": key}
            clips, ids = part["video"], part["text"]
            return self.model.apply(variables, clips, ids, train=True, rngs=rngs)[:2]

        pairs = {name: batch[name] for name in ("video", "text")}
        if own.parts > 1:
            video, text = in_parts(encode, pairs, key, own.parts)
        else:
            video, text = encode(pairs, key)
        scale = jnp.exp(variables["params"]["logit_scale"])
        if plan.name == "contrastive":
            value, top1 = contrastive_loss(video, text, scale, own.chunk)
        else:
            relevancy = batch["relevancy"] if own.relevancy else None
            value, top1 = max_margin_loss(video, text, own.margin, relevancy, chunk=own.chunk)
        return LossOutput({plan.name: (value, 1.0)}, {"top1": top1}, {})

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips in the common space, [B, E] float32."""
        del plan
        return self.model.apply(variables, batch["video"], method="encode_video")

    def embed_text(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Texts in the common space, [B, E] float32, of text [B, L] int32."""
        del plan
        return self.model.apply(variables, batch["text"], method="encode_text")

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """What probes read: `embed_video`'s [B, E] float32."""
        return self.embed_video(variables, batch, plan)
