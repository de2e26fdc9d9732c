"""Videos and captions in one space: contrastive and max-margin training of dual encoders.

Sources: AVION (arXiv 2309.16669), scripts/main_lavila_pretrain.py and
scripts/main_lavila_finetune_mir.py of zhaoyue-zephyrus/AVION; Flux-CLIP of "Make Your Training
Flexible" (arXiv 2503.14237, table 16): the same at three token budgets, whose code is not released.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fluxjax.checkpoints.starting import start_model
from fluxjax.checkpoints.text_towers import start_text
from fluxjax.models import create_model
from fluxjax.models.registry import model_fields
from fluxjax.tasks.base import Batch, LossOutput, Plan, batch_spec
from fluxjax.tasks.contrastive import contrastive_loss, max_margin_loss
from fluxjax.tasks.micro_batches import in_parts
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.tokens import Tokens

LOSSES = ("contrastive", "max_margin")
_INPUTS = ("video", "patches", "grid", "text")  # what the model sees of a batch


def keys() -> ConfigDict:
    """What only this task has: `config.contrast`."""
    own = ConfigDict()
    own.vocabulary = ""  # CLIP's bpe_simple_vocab_16e6.txt.gz, a tokenizer.json or demo:captions
    own.tokenizer = "clip"  # kind of tokenizer that reads it, see data_pipelines.text.kinds
    own.context = placeholder(int)  # token ids a caption; None: as many as the model has places
    # Inference checkpoint whose text tower starts this one's, such as CLIP's converted to an AVION,
    # where config.init_from has none; None: it is that of init_from, or random.
    own.text_from = placeholder(str)
    own.loss = "contrastive"  # or max_margin, as EK100 retrieval is fine-tuned
    own.margin = 0.2  # of max_margin
    own.relevancy = False  # True: margins times how well a caption fits, of data that grade them
    own.chunk = placeholder(int)  # rows of the table of pairs at a time; None: the whole table
    own.parts = 1  # parts of a batch that are embedded one after the other, in less memory
    return own


class ContrastTask:
    """A dual encoder of clips and captions; every pair of the global batch counts.

    A model on one grid takes dense clips. One that serves any takes packed clips of several grids,
    and at each of `config.budgets` the same clips are compared with the same texts, which are
    encoded once.

    Attributes:
      config: see `fluxjax.config.keys.base_config` and `keys`.
      model: the flax module, such as `fluxjax.models.avion.Avion`.
      budgets: tokens of a clip in training; () of a model without budgets, on all tokens.
      grids: sampling grids of the clips in training.
      max_grid: static bound of all grids of training and evaluation.
      slots: token slots of packed clips; None: clips are dense.
    """

    def __init__(self, config: ConfigDict):
        """Builds the model.

        Raises:
          ValueError: on an unknown model or loss, a model without text tower, several grids of a
            model that works on one, or budgets that cannot be used.
        """
        self.config, self.own = config, config.contrast
        fields = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
        self.budgets = tuple(config.budgets) if "budgets" in model_fields(name) else ()
        if self.budgets:
            fields["budgets"] = self.budgets
        self.model = create_model(name, None, dtype=dtype, **fields)
        if not self.runs(self.model):
            raise ValueError(
                f"task 'contrast' needs a model of videos and texts, such as avion_b16; "
                f"config.model.name={name!r} has no text tower"
            )
        self.grids = grids.fitting_grids(
            config.grids.frames,
            config.grids.resolutions,
            config.grids.min_tokens,
            config.grids.max_tokens,
            self.model.patch,
        )
        if len(self.grids) > 1 and self.model.one_grid:
            raise ValueError(
                f"{name} trains on one sampling grid, config.grids gives "
                f"{', '.join(map(str, self.grids))}; leave one frame number and one resolution"
            )
        self._all_grids = (*self.grids, *map(grids.parse_grid, config.eval.grids))
        self.max_grid = grids.max_grid(self._all_grids, self.model.patch)
        most = max(grid.tokens(self.model.patch) for grid in self._all_grids)
        self.slots = None if self.model.one_grid else most
        self._check_budgets(most)

    def _check_budgets(self, most: int) -> None:
        if not self.budgets and not self.model.one_grid:
            raise ValueError(f"config.budgets=() must name tokens of a clip, at most {most}")
        if list(self.budgets) != sorted(self.budgets, reverse=True):
            raise ValueError(f"budgets {self.budgets} must go from the largest to the smallest")
        if self.budgets and not 1 <= self.budgets[-1] <= self.budgets[0] <= most:
            raise ValueError(
                f"budgets {self.budgets} must lie between 1 and {most}, the tokens of the largest "
                "sampling grid; change budgets or grids"
            )

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
        if own.text_from is not None and config.init_from is None:
            raise ValueError(
                f"config.contrast.text_from={own.text_from!r} starts the text tower beside that of "
                "videos: name this one's checkpoint in config.init_from"
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
        """A clip and one of its captions, and how well that fits where margins ask for it."""
        targets = ("relevancy",) if self.own.relevancy else ()
        return dataclasses.replace(self._example(self.grids), targets=targets)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """A clip on the grid and one of its captions."""
        return self._example((grid,))

    def _example(self, clip_grids: tuple[grids.Grid, ...]) -> ExampleSpec:
        own = self.own
        text = TextSpec(
            own.context or self.model.context_length,
            own.vocabulary,
            own.tokenizer,
            self.model.vocab_size,
        )
        clip = ClipSpec(clip_grids, slots=self.slots, patch=self.model.patch)
        return ExampleSpec((clip,), text, targets=())

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """text [B, L] int32, text_length [B] int32, and the clips.

        These are video [B, T, H, W, 3] uint8, or packed patches [B, slots, patch*patch*3] uint8 and
        grid [B, 3] int32. With `relevancy` also that, [B] float32.
        """
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan: all budgets are in the same program."""
        return (Plan(self.own.loss, grid=self.grids[0] if self.model.one_grid else None),)

    def evaluators(self) -> tuple[str, ...]:
        """Retrieval in both directions; with named classes zero-shot classification can join."""
        return ("retrieval",)

    def eval_plans(self, grid: grids.Grid) -> dict[int | None, Plan]:
        """One plan a grid; of a model with budgets those of `config.eval.budgets` it can fill.

        All its tokens where it has fewer than the smallest.
        """
        if not self.budgets:
            return {None: Plan("eval", grid=grid)}
        tokens = grid.tokens(self.model.patch)
        wanted = sorted(set(self.config.eval.budgets), reverse=True)
        budgets = [budget for budget in wanted if budget <= tokens] or [tokens]
        return {budget: Plan("eval", budget) for budget in budgets}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables; the clip's shape does not matter to them."""
        side = 2 * self.model.patch
        ids = jnp.zeros((1, self.model.context_length), jnp.int32)
        return self.model.init(key, jnp.zeros((1, 2, side, side, 3), jnp.float32), ids)

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        See `fluxjax.checkpoints.starting.start_model`; the text tower may be another one's.
        """
        variables = start_model(directory, self.model, variables)
        if self.own.text_from is None:
            return variables
        return start_text(self.own.text_from, self.model, variables)

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """The plan's loss over all pairs; metric top1: whose own caption is the nearest.

        With budgets, terms and metrics <name>_<budget>; their mean is the loss. Batches of several
        parts embed one part after the other (`micro_batches.in_parts`).
        """
        own = self.own

        def encode(part: Batch, key: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
            inputs, options = (self._clips(part), part["text"]), {"rngs": {"dropout": key}}
            if self.budgets:
                options["method"] = "embed_budgets"
            videos, text, _ = self.model.apply(variables, *inputs, train=True, **options)
            return videos if self.budgets else (videos,), text

        pairs = {name: x for name, x in batch.items() if name in _INPUTS}
        if own.parts > 1:
            videos, text = in_parts(encode, pairs, key, own.parts)
        else:
            videos, text = encode(pairs, key)
        scale = jnp.exp(variables["params"]["logit_scale"])
        relevancy = batch["relevancy"] if own.relevancy else None
        terms, metrics = {}, {}
        suffixes = [f"_{budget}" for budget in self.budgets] or [""]
        for suffix, video in zip(suffixes, videos, strict=True):
            if plan.name == "contrastive":
                value, top1 = contrastive_loss(video, text, scale, own.chunk)
            else:
                value, top1 = max_margin_loss(video, text, own.margin, relevancy, chunk=own.chunk)
            terms[f"{plan.name}{suffix}"] = (value, 1 / len(videos))
            metrics[f"top1{suffix}"] = top1
        return LossOutput(terms, metrics, {})

    def _clips(self, batch: Batch) -> jax.Array | Tokens:
        """The batch's clips as the model takes them, pixels uint8."""
        if self.slots is None:
            return batch["video"]
        tokens = Tokens.from_patches(batch["patches"], batch["grid"], self.max_grid)
        return tokens.replace(padded=len(set(self._all_grids)) > 1)

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips in the common space, [B, E] float32, at the plan's budget."""
        budget = (plan.budget,) if self.budgets else ()
        return self.model.apply(variables, self._clips(batch), *budget, method="encode_video")

    def embed_text(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Texts in the common space, [B, E] float32, of text [B, L] int32."""
        del plan
        return self.model.apply(variables, batch["text"], method="encode_text")

    def last_tokens(self, variables: Any, batch: Batch, plan: Plan) -> Tokens:
        """Tokens after the last block [B, K, C] float32 of a model that returns them."""
        clips = self._clips(batch)
        return self.model.apply(variables, clips, budget=plan.budget, return_tokens=True)[-1]

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """What probes read: `embed_video`'s [B, E] float32."""
        return self.embed_video(variables, batch, plan)
