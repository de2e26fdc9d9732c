"""Matching videos and captions; equal captions are no negatives of each other."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.models import create_model
from fluxjax.tasks.base import LossOutput, ParamGroup, Plan, batch_spec
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.grids import Grid


def keys() -> ConfigDict:
    """What only this task has: `config.match`."""
    own = ConfigDict()
    own.vocabulary = ""  # path of a tokenizer.json
    own.length = 12  # token ids a caption
    own.frames = (2, 5)  # of the two clips
    return own


class MatchTask:
    """Contrastive matching of two clips of a video with its caption."""

    def __init__(self, config):
        self.config = config
        self.model = create_model(config.model.name, None, width=config.model.width or 16)

    def check(self):
        if not self.config.match.vocabulary:
            raise ValueError("config.match.vocabulary='' must name a tokenizer.json")

    def example(self):
        return self._spec(self.config.grids.resolutions[0])

    def eval_example(self, grid: Grid):
        return self._spec(grid.resolution)

    def _spec(self, side):
        own = self.config.match
        clips = [ClipSpec((Grid(frames, side),), name)
                 for name, frames in zip(("short", "long"), own.frames, strict=True)]  # fmt: skip
        text = TextSpec(own.length, own.vocabulary)
        return ExampleSpec(tuple(clips), text, targets=("group",))

    def batch_spec(self, batch_size):
        return batch_spec(self.example(), batch_size)

    def plans(self):
        return (Plan("match"),)

    def eval_plans(self, grid):
        return {None: Plan("eval")}

    def evaluators(self):
        return ("held_out",)

    def init(self, key):
        batch = {n: jnp.zeros(s.shape, s.dtype) for n, s in self.batch_spec(2).items()}
        return self.model.init(key, *self._inputs(batch))

    def groups(self, params):
        return jax.tree.map(lambda x: ParamGroup(), params)

    def _inputs(self, batch):
        return batch["short_video"], batch["long_video"], batch["text"]

    def losses(self, variables, batch, plan):
        videos, captions = self.model.apply(variables, *self._inputs(batch))
        scores = videos @ captions.T / 0.1
        same = batch["group"][:, None] == batch["group"][None]
        scores = jnp.where(same & ~jnp.eye(len(same), dtype=bool), -jnp.inf, scores)
        return {"match": -jnp.diagonal(jax.nn.log_softmax(scores, axis=-1))}

    def loss(self, variables, batch, key, plan):
        value = jnp.mean(self.losses(variables, batch, plan)["match"])
        return LossOutput({"match": (value, 1.0)}, {}, {})
