"""Re-ranked retrieval and multiple choice as vid-TLDR's code evaluates them."""

import jax
import numpy as np
import pytest

from data_pipelines.sources.records import Catalog
from fluxjax.config.keys import base_config
from fluxjax.convert.load import load_torch
from fluxjax.evaluation.reranked import Reranked
from fluxjax.tasks import create_task
from fluxjax.training.mesh import make_mesh
from tests.golden import fixture


class Said(Catalog):
    """Captions of videos that are called by their numbers."""

    def __init__(self, said):
        self._said = said

    def __len__(self):
        return len(self._said)

    def captions(self):
        return self._said

    def name(self, index):
        return str(index)


class Data:
    """A fixture's videos and captions; caption i is called so."""

    def __init__(self, case):
        self.video = np.ascontiguousarray(case.inputs["video"].transpose(0, 1, 3, 4, 2))
        self.ids, self.lengths = case.inputs["input_ids"], case.inputs["attention_mask"].sum(axis=1)
        right = case.meta["img2txt"]
        self.said = [tuple(str(i) for i in right[str(v)]) for v in range(len(self.video))]

    def eval_batches(self, spec, split="test", videos=None):
        count, rows = len(self.video), 8
        video = np.pad(self.video, [(0, rows - count)] + [(0, 0)] * 4)[:, None]
        real = np.arange(rows) < count
        yield {"video": video, "weight": real.astype(np.float32), "readable": real,
               "example": np.arange(rows)}  # fmt: skip

    def catalog(self, split):
        return Said(self.said)

    def encode(self, texts, spec):
        rows = np.array([int(text) for text in texts])
        return {"text": self.ids[rows], "text_length": self.lengths[rows].astype(np.int32)}


def evaluated(kind, merge, **options):
    case = fixture("vidtldr", "vidtldr_retrieval")
    config = base_config("umt_ti8", task="retrieve")
    config.grids.frames, config.grids.resolutions, config.eval.grids = (4,), (16,), ("4x16",)
    config.retrieve.length, config.eval.batch_size = 8, 8
    config.eval.update(options)
    task, data = create_task(config), Data(case)
    heads = {"num_heads": 3, "text_heads": case.meta["bert"]["num_attention_heads"]}
    task.model, variables = load_torch("umt", case.params, **heads)
    task.merge = tuple(case.meta["vidTLDR_r"]) if merge else ()
    mesh = make_mesh()
    with jax.default_matmul_precision("highest"):
        return case, kind(task, mesh, data).run(variables)


@pytest.mark.parametrize("name", ["merged", "plain"])
def test_metrics_of_both_rounds(name):
    case, table = evaluated(Reranked, name == "merged")
    expected = dict(
        zip(case.meta["metric_columns"], case.outputs[f"{name}/k128/metrics"].T, strict=True)
    )
    for row in table.rows:
        of = 0 if row["order"] == "top 128" else 1
        prefix = {"video": "txt", "text": "img"}[row["direction"]]
        for k in (1, 5, 10):
            found = round(100 * row[f"recall_at_{k}"], 2)
            assert found == pytest.approx(expected[f"{prefix}_r{k}"][of], abs=0.011), row
