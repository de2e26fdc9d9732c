"""A toy task and data whose clips are embeddings already; as a command, one of two processes."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_pipelines.sources.records import Catalog, Relevancy
from fluxjax.evaluation.registry import make_evaluators
from fluxjax.tasks.base import Plan
from fluxjax.training import hosts
from fluxjax.training.mesh import make_mesh

VIDEOS, VIEWS, WIDTH, BATCH, BAD = 13, 2, 6, 8, 4
TEXTS = [f"caption {i}" for i in range(9)]
CAPTIONS = [(TEXTS[i % 9],) if i % 3 else (TEXTS[i % 9], TEXTS[(i + 4) % 9]) for i in range(VIDEOS)]
ACTIONS = ("0:0", "0:2", "1:2", "3:0")
LABELS = np.arange(VIDEOS) % 4


class ToyCatalog(Catalog):
    num_classes, label_names = 4, ACTIONS

    def __len__(self):
        return VIDEOS

    def name(self, index):
        return f"video {index}"

    def labels(self):
        return LABELS

    def captions(self):
        return CAPTIONS

    def options(self):
        return [tuple(TEXTS[(i + 2 * j) % 9] for j in range(4)) for i in range(VIDEOS)]

    def relevancy(self):
        values = np.random.default_rng(5).choice([0.0, 0.3, 1.0], (VIDEOS, len(TEXTS)))
        return Relevancy(tuple(TEXTS), values.astype(np.float32))


class ToyData:
    """Batches whose clips are embeddings already: [videos, views, WIDTH]."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.embeddings = rng.standard_normal((VIDEOS, VIEWS, WIDTH)).astype(np.float32)

    def eval_batches(self, spec, split="test", videos=None):
        own = BATCH // jax.process_count()
        for number in range(-(-VIDEOS // BATCH)):
            start = number * BATCH + own * jax.process_index()
            example = np.arange(start, start + own)
            real = example < VIDEOS
            readable = real & (example != BAD)
            clips = np.zeros((own, VIEWS, WIDTH), np.float32)
            clips[readable] = self.embeddings[example[readable]]
            yield {
                "video": clips, "example": example, "weight": real.astype(np.float32),
                "readable": readable,
                "label": np.where(readable, LABELS[np.minimum(example, VIDEOS - 1)], -1),
            }  # fmt: skip

    def catalog(self, split):
        return ToyCatalog()

    def encode(self, texts, spec):
        numbers = np.array([sum(map(ord, text)) for text in texts], np.int32)
        ids = np.stack([numbers % 64, numbers % 5, numbers % 3], axis=1)
        return {"text": ids, "text_length": 1 + numbers % 3}


class ToyTask:
    """Budget 1 leaves out the last number of each embedding."""

    def __init__(self):
        self.config = ConfigDict({"task": "toy"})
        self.config.eval = {
            "grids": ("2x28",), "batch_size": BATCH, "dual_softmax": None, "prompts": ("{}",),
            "evaluators": ("retrieval",), "rerank": 4,
        }  # fmt: skip
        rng = np.random.default_rng(1)
        self.table = rng.standard_normal((64, WIDTH)).astype(np.float32)
        self.head = rng.standard_normal((WIDTH, 4)).astype(np.float32)

    def eval_example(self, grid):
        return types.SimpleNamespace(text=types.SimpleNamespace(length=3))

    def eval_plans(self, grid):
        return {2: Plan("eval", 2), 1: Plan("eval", 1)}

    def embed_video(self, variables, batch, plan):
        kept = jnp.arange(WIDTH) < WIDTH - (plan.budget == 1)
        return 3 * batch["video"] * kept

    def embed_text(self, variables, batch, plan):
        return 5 * jnp.asarray(self.table)[batch["text"][:, 0]]

    def video_states(self, variables, batch, plan):
        return self.embed_video(variables, batch, plan)[:, None]

    def text_states(self, variables, batch, plan):
        return jnp.asarray(self.table)[batch["text"]]

    def match(self, variables, text, mask, video, plan):
        """Of the words that are there, and of all of a video's tokens."""
        said = jnp.sum(text * mask[..., None], axis=1).reshape(len(video), -1, WIDTH)
        logit = jnp.einsum("brc,bc->br", jnp.tanh(said), jnp.mean(video, axis=1)).reshape(-1)
        return jnp.stack([-logit, logit], axis=-1)

    def temperature(self, variables):
        return 0.5

    def predict(self, variables, batch, plan):
        return 3 * batch["video"] @ self.head


def tables():
    """Every evaluator's rows, as JSON."""
    task = ToyTask()
    task.config.eval.evaluators = (
        "retrieval", "reranked", "multiple_choice", "zero_shot", "ek100_mir", "ek100_cls",
    )  # fmt: skip
    made = [evaluator.run({}) for evaluator in make_evaluators(task, make_mesh(), ToyData())]
    return json.dumps([[table.rows, table.videos, table.unreadable] for table in made])


if __name__ == "__main__":
    address, number = sys.argv[1:]
    hosts.start("on", address, 2, int(number))
    print(tables())
