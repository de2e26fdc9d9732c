"""Question answering on videos: a decoder gives the answer to a question that has seen the video.

Source: OpenGVLab/unmasked_teacher, multi_modality, tasks/vqa.py and models/umt_qa.py.
"""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from fluxjax.checkpoints.inference import load
from fluxjax.checkpoints.starting import start_from
from fluxjax.models.umt import Umt
from fluxjax.tasks.answer_ranking import Ranked, rank_answers
from fluxjax.tasks.base import Batch, LossOutput, Plan
from fluxjax.tasks.umt_task import UmtTask, text_keys, texts_of
from fluxjax.tasks.umt_terms import Applied, Texts, answer_terms
from fluxjax.tokens import grids
from fluxjax.tokens.examples import AnswersSpec, ClipSpec, ExampleSpec, TextSpec

_LAYER = re.compile(r"layers_(\d+)/(.*)")


def keys() -> ConfigDict:
    """What only this task has: `config.answer`."""
    own = text_keys(length=25)
    own.answer_length = 5  # token ids an answer
    own.answers = 1  # different answers to a question that are trained on, the most frequent
    own.choices = ""  # JSON list of the answers to rank; "": those that the test data have
    own.ranked = 128  # answers whose whole text is scored, those with the likeliest first words
    own.first_token_twice = True  # the official score; False: the answer's probability
    own.merge = ()  # tokens that the first blocks merge, below 1 their share; (): none
    return own


class AnswerTask(UmtTask):
    """Answers to questions about videos; the model has no projections and no matching head."""

    def __init__(self, config: ConfigDict):
        """Builds the model: an answer decoder of as many layers as fuse video and text.

        Raises:
          ValueError: as `UmtTask`.
        """
        super().__init__(config)
        layers = self.model.answer_layers or self.model.text_depth - self.model.fusion_layer
        self.model = self.model.clone(embedding=None, answer_layers=layers)

    @staticmethod
    def runs(model: nn.Module) -> bool:
        """Whether a model is a UMT that answers questions."""
        return isinstance(model, Umt) and model.answer_layers > 0

    def example(self) -> ExampleSpec:
        """A dense clip, a question, and its answers."""
        answers = AnswersSpec(self.answer_spec(), self.own.answers)
        return self._spec(self.grid, answers)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """A dense clip on a grid, and a question."""
        return self._spec(grid, None)

    def _spec(self, grid: grids.Grid, answers: AnswersSpec | None) -> ExampleSpec:
        clip = ClipSpec((grid,), patch=self.model.patch)
        return ExampleSpec((clip,), self.text_spec("bert", self.own.length), (), answers)

    def answer_spec(self) -> TextSpec:
        """How answers become token ids."""
        return self.text_spec("bert_answer", self.own.answer_length)

    def evaluators(self) -> tuple[str, ...]:
        """The share of questions whose likeliest answer is right."""
        return ("answers",)

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places.

        A checkpoint with text but without a decoder of answers starts it as the release does: with
        the embeddings, the layers that fuse, and the head of its text encoder.
        """
        model, stored = load(directory)
        started = start_from(model, stored, self.model, variables, directory)
        if isinstance(model, Umt) and not model.answer_layers:
            text, layers = stored["params"]["text"], self.model.fusion_layer
            decoder = as_decoder(text, started["params"]["answers"], layers)
            started["params"] = started["params"] | {"answers": decoder}
        return started

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Term answer: minus the weighted log-probability of the answers, a question."""
        del plan
        count = self.own.answers
        ids = batch["answer"].reshape(-1, self.own.answer_length)
        seen = jnp.arange(self.own.answer_length) < batch["answer_length"].reshape(-1, 1)
        terms = answer_terms(
            Applied(self.model, variables, key),
            batch["video"],
            texts_of(batch),
            Texts(ids, seen.astype(jnp.int32)),
            jnp.repeat(jnp.arange(len(batch["video"])), count),
            batch["answer_weight"].reshape(-1),
            self.merge,
        )
        return LossOutput({name: (value, 1.0) for name, value in terms.items()}, {}, {})

    def rank_answers(self, variables: Any, batch: Batch, choices: Texts, plan: Plan) -> Ranked:
        """The likeliest of some answers to the questions of a batch, see `rank_answers`.

        Args:
          variables: of the model.
          batch: video [B, T, H, W, 3], text [B, L], text_length [B].
          choices: [A, M] ids and mask.
          plan: for evaluation.
        """
        del plan
        apply = Applied(self.model, variables)
        tokens, _ = apply("encode_video", batch["video"], merge=self.merge)
        questions = texts_of(batch)
        states = apply("encode_question", *questions, tokens)
        return rank_answers(
            self.model, variables, states, questions.mask, *choices, self.own.ranked,
            self.own.first_token_twice,
        )  # fmt: skip


def as_decoder(text: Any, decoder: Any, first: int) -> dict[str, Any]:
    """Parameters of a decoder that starts from a text encoder's layers `first` and following.

    Args:
      text: parameters of the encoder.
      decoder: initial ones; what the encoder lacks, such as a head, stays.
      first: the encoder's first layer with cross-attention.
    """
    given = {"/".join(path): value for path, value in flatten_dict(text).items()}
    started = {}
    for path, value in flatten_dict(decoder).items():
        name = "/".join(path)
        if found := _LAYER.match(name):
            name = f"layers_{int(found[1]) + first}/{found[2]}"
        started[path] = jnp.asarray(given.get(name, value), value.dtype)
    return unflatten_dict(started)
