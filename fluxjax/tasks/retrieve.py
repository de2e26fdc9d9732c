"""Retrieval: videos and captions in one space, and whether a pair matches (UMT's VTC and VTM).

Source: OpenGVLab/unmasked_teacher, multi_modality, tasks/retrieval.py; captions of one video are no
wrong partners of each other.
"""

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from fluxjax.models.umt import Umt
from fluxjax.tasks.base import Batch, LossOutput, Plan
from fluxjax.tasks.umt_task import UmtTask, text_keys, texts_of
from fluxjax.tasks.umt_terms import retrieval_terms


def keys() -> ConfigDict:
    """What only this task has: `config.retrieve`."""
    own = text_keys(length=32)
    own.merge = ()  # tokens that the first blocks merge, below 1 their share; (): none
    return own


class RetrieveTask(UmtTask):
    """Contrast of videos and captions, and matching with hard negatives."""

    @staticmethod
    def runs(model: nn.Module) -> bool:
        """Whether a model is a UMT that projects videos and captions into one space."""
        return isinstance(model, Umt) and model.embedding is not None

    def evaluators(self) -> tuple[str, ...]:
        """Ranks of the right partners; "reranked" and "multiple_choice" can join."""
        return ("retrieval",)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Terms vtc and vtm, of weight 1 each; the temperature is reported."""
        del plan
        terms = retrieval_terms(
            self.model, variables, batch["video"], texts_of(batch), batch["group"], key,
            self.merge,
        )  # fmt: skip
        weighted = {name: (value, 1.0) for name, value in terms.items()}
        return LossOutput(weighted, {"temperature": self.temperature(variables)}, {})

    def temperature(self, variables: Any) -> jax.Array:
        """What similarities are divided by, [] float32."""
        return self.model.apply(variables, method="clamped_temperature")

    def embed_video(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Clips in the space that they share with captions: [B, E] float32, unit norm."""
        del plan
        return self.model.apply(variables, batch["video"], merge=self.merge)

    def embed_text(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Captions in that space: [B, E] float32, unit norm."""
        text = self.text_states(variables, batch, plan)
        return self.model.apply(variables, text, method="project_text")

    def video_states(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Tokens of clips [B, N, C], which `match` compares with texts."""
        del plan
        return self.model.apply(
            variables, batch["video"], merge=self.merge, method="encode_video"
        )[0]  # fmt: skip

    def text_states(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Tokens of captions [B, L, C] float32, likewise."""
        del plan
        return self.model.apply(variables, *texts_of(batch), method="encode_text")

    def match(
        self, variables: Any, text: jax.Array, mask: jax.Array, video: jax.Array, plan: Plan
    ) -> jax.Array:
        """Logits [B, 2] float32 that pairs match (1), see `Umt.match`."""
        del plan
        return self.model.apply(variables, text, mask, video, method="match")
