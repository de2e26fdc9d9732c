"""UMT's second stage of pre-training: videos with captions, and what CLIP sees in their frames.

Source: "Unmasked Teacher" (arXiv 2303.16058, section 3.3), OpenGVLab/unmasked_teacher,
multi_modality, tasks/pretrain.py. All four terms have weight 1.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from fluxjax.checkpoints.text_towers import start_text
from fluxjax.tasks.base import Batch, Constants, LossOutput, Plan
from fluxjax.tasks.draws import example_keys
from fluxjax.tasks.retrieve import RetrieveTask
from fluxjax.tasks.teacher import COLLECTION
from fluxjax.tasks.umt_losses import mask_words
from fluxjax.tasks.umt_task import text_keys, texts_of
from fluxjax.tasks.umt_terms import Applied, Masked, pretraining_terms
from fluxjax.tasks.unmasked_teacher import UnmaskedTeacher, add_teacher_keys, frame_draws
from fluxjax.tokens.examples import ExampleSpec


def keys() -> ConfigDict:
    """What only this task has: `config.pretrain_umt`."""
    own = add_teacher_keys(text_keys(length=32))
    own.words = 0.5  # share of a caption's tokens that are hidden
    own.mask_id = 103  # of [MASK] in the vocabulary; BERT's
    # Inference checkpoint whose text encoder starts this one's where config.init_from has none,
    # such as BERT's converted weights; None: it is that of init_from, or random.
    own.text_from = placeholder(str)
    return own


class PretrainTask(RetrieveTask):
    """Features of a teacher (UTA), contrast (VTC), matching (VTM), hidden words (MLM).

    The student sees few tokens of each frame in all four; evaluation sees all.

    Attributes:
      teacher: CLIP's image encoder, frame by frame.
    """

    def __init__(self, config: ConfigDict):
        """Builds student and teacher.

        Raises:
          FileNotFoundError: if the teacher's folder is not there.
          ValueError: as `UmtTask`, and on another teacher, or tokens of several frames.
        """
        self.teacher = UnmaskedTeacher(config)
        super().__init__(config, token_head=True, taught_width=self.teacher.model.embedding)
        if not self.model.taught_layers:
            self.model = self.model.clone(
                taught_layers=min(6, self.model.depth, self.teacher.model.depth)
            )
        if self.model.tubelet != 1:
            raise ValueError(
                f"config.model.tubelet={self.model.tubelet}: a teacher of frames needs a token a "
                "frame; set it to 1"
            )

    @staticmethod
    def runs(model: nn.Module) -> bool:
        """No model is evaluated as this task where nothing is known of it, see `RetrieveTask`."""
        del model
        return False

    def check(self) -> None:
        """See `UmtTask.check`; the teacher has weights, and [MASK] is in the vocabulary.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        super().check()
        self.teacher.check(self.config.dry_run)
        if not 0 <= self.own.mask_id < self.model.vocabulary:
            raise ValueError(
                f"config.pretrain_umt.mask_id={self.own.mask_id} must be below the "
                f"{self.model.vocabulary} ids of config.model.vocabulary"
            )

        if self.own.text_from is not None and self.config.init_from is None:
            raise ValueError(
                f"config.pretrain_umt.text_from={self.own.text_from!r} starts the text encoder "
                "beside that of videos: name this one's checkpoint in config.init_from"
            )

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """As `UmtTask.start_from`; the text encoder may be another one's, see `start_text`."""
        variables = super().start_from(directory, variables)
        if self.own.text_from is None:
            return variables
        return start_text(self.own.text_from, self.model, variables)

    def example(self) -> ExampleSpec:
        """A dense clip, a text, the group of equal texts, and a number for what is hidden."""
        return dataclasses.replace(super().example(), targets=("group", "draw"))

    def constants(self) -> Constants:
        """The teacher's parameters."""
        return self.teacher.constants()

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms uta, vtc, vtm and mlm, of weight 1 each; the temperature is reported."""
        del plan
        draw, drop = jax.random.split(key)
        see, hide = (example_keys(self.config.seed, batch["draw"], purpose) for purpose in (0, 1))
        student = {name: x for name, x in variables.items() if name != COLLECTION}
        model, texts, video = self.model, texts_of(batch), batch["video"]
        lesson = self.teacher.teach(
            variables, video, frame_draws(see, video, model.patch), model.taught_layers, model.patch
        )
        shown = mask_words(hide, *texts, model.vocabulary, self.own.mask_id, self.own.words)
        masked = Masked(lesson.visible, lesson.features, *shown)
        terms = pretraining_terms(
            Applied(model, student, drop), lesson.video, texts, batch["group"], masked, draw
        )
        weighted = {name: (value, 1.0) for name, value in terms.items()}
        return LossOutput(weighted, {"temperature": self.temperature(student)}, {})
