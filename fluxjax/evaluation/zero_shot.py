"""Classification without training for it: the class whose name lies nearest to the video."""

from typing import Any

import jax
import numpy as np

from fluxjax.evaluation.action_metrics import top_k_hits
from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.embeddings import EmbeddingReader
from fluxjax.evaluation.passes import Passes
from fluxjax.tasks.base import Task
from fluxjax.tokens.grids import Grid

COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column(
        "top-1 (95 % interval)",
        lambda row: f"{row['top1']:.1%} ({row['top1_low']:.1%} to {row['top1_high']:.1%})",
    ),
    Column("top-5", lambda row: f"{row['top5']:.1%}"),
    Column("prompts", lambda row: str(row["prompts"])),
)


class ZeroShot:
    """Accuracy of the class with the nearest text, as CLIP (arXiv 2103.00020, section 3.1).

    A class's text embedding is the mean over `config.eval.prompts` of the unit embeddings of the
    prompt with its name in the place of {}; underscores of names are spaces.
    """

    name, splits = "zero_shot", ("test",)

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet.

        Raises:
          ValueError: if the classes have no names, or a prompt no place for one.
        """
        self._task, self._passes = task, Passes(task, mesh, data)
        self._reader, self._data = EmbeddingReader(self._passes), data
        names = data.catalog("test").label_names
        if not names:
            raise ValueError(
                "zero_shot needs names of the classes; give config.data.class_names, or a "
                "classes.txt beside the list"
            )
        self._prompts = tuple(task.config.eval.prompts)
        for prompt in self._prompts:
            if prompt.count("{}") != 1:
                raise ValueError(
                    f"config.eval.prompts: {prompt!r} must hold {{}} once, for a class's name"
                )
        self._texts = [p.format(name.replace("_", " ")) for name in names for p in self._prompts]

    def run(self, variables: Any) -> Table:
        """A row for every budget on every grid."""
        labels = self._data.catalog("test").labels()
        rows, unreadable = [], np.zeros(0, np.int64)
        for grid in self._passes.grids():
            found, bad = self._run_grid(variables, grid, labels)
            rows += found
            unreadable = np.union1d(unreadable, bad)
        return Table(
            name=self.name,
            file=self.name,
            title=f"zero-shot classification of {len(labels)} videos",
            columns=COLUMNS,
            rows=tuple(rows),
            scalars={f"top1_{row['budget']}_{row['grid']}": row["top1"] for row in rows},
            videos=len(labels),
            unreadable=self._passes.names("test", unreadable),
        )

    def _run_grid(self, variables: Any, grid: Grid, labels) -> tuple[list, np.ndarray]:
        plans = self._task.eval_plans(grid)
        videos = self._reader.videos(variables, grid, plans)
        texts = self._reader.texts(variables, grid, next(iter(plans.values())), self._texts)
        classes = texts.reshape(-1, len(self._prompts), texts.shape[-1]).mean(axis=1)
        classes /= np.maximum(np.linalg.norm(classes, axis=-1, keepdims=True), 1e-12)
        rows = []
        for budget, values in videos.values.items():
            scores = values @ classes.T
            hits = [top_k_hits(scores, labels, k) & videos.readable for k in (1, 5)]
            top1, top5 = (int(np.sum(hit)) for hit in hits)
            low, high = wilson_interval(top1, len(labels))
            rows.append(
                {"budget": budget, "grid": str(grid), "top1": top1 / len(labels),
                 "top5": top5 / len(labels), "top1_low": low, "top1_high": high,
                 "prompts": len(self._prompts), "views": videos.views, "videos": len(labels),
                 "unreadable": int(np.sum(~videos.readable))}
            )  # fmt: skip
        return rows, videos.unreadable
