"""The measures of EPIC-KITCHENS-100: multi-instance retrieval, and verbs, nouns and actions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.action_metrics import (
    marginal,
    mean_class_accuracy,
    parse_actions,
    top_k_hits,
)
from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table
from fluxjax.evaluation.embeddings import EmbeddingReader
from fluxjax.evaluation.multi_instance import score
from fluxjax.evaluation.passes import Passes
from fluxjax.tasks.base import Plan, Task
from fluxjax.tokens.grids import Grid


def _share(head: str, key: str) -> Column:
    return Column(head, lambda row: f"{row[key]:.1%}")


class MultiInstanceRetrieval:
    """mAP and nDCG between videos and sentences of graded relevancy, both ways and their mean.

    Over the videos that can be read, whatever their number; the others are named. A query without
    a relevant candidate is in no mean.
    """

    name, splits = "ek100_mir", ("test",)
    columns = (
        BUDGET,
        Column("grid", lambda row: row["grid"]),
        *(_share(f"{measure} {shown}", f"{key}_{way}")
          for measure, key in (("mAP", "map"), ("nDCG", "ndcg"))
          for shown, way in (("V->T", "v2t"), ("T->V", "t2v"), ("mean", "mean"))),
    )  # fmt: skip

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table, and reads the relevancies.

        Raises:
          ValueError: if the test data have none.
        """
        self._task, self._passes = task, Passes(task, mesh, data)
        self._reader = EmbeddingReader(self._passes)
        self._relevancy = data.catalog("test").relevancy()
        if self._relevancy is None:
            raise ValueError(
                f"ek100_mir needs graded relevancies: config.data.test={task.config.data.test!r} "
                "must be EPIC_100_retrieval_test.csv with its _sentence.csv and "
                "caption_relevancy_*.pkl beside it"
            )

    def run(self, variables: Any) -> Table:
        """A row for every budget on every grid."""
        texts, values = self._relevancy
        rows, unreadable = [], np.zeros(0, np.int64)
        for grid in self._passes.grids():
            plans = self._task.eval_plans(grid)
            videos = self._reader.videos(variables, grid, plans)
            sentences = self._reader.texts(variables, grid, next(iter(plans.values())), texts)
            relevancy = values if videos.readable.all() else values[videos.readable]
            for budget, embedded in videos.values.items():
                both = {
                    "v2t": score(embedded[videos.readable], sentences, relevancy),
                    "t2v": score(sentences, embedded[videos.readable], relevancy.T),
                }
                rows.append(
                    {"budget": budget, "grid": str(grid), **_means(both), "views": videos.views,
                     "sentences": len(texts), "videos": len(videos.readable),
                     "unreadable": int(np.sum(~videos.readable))}
                )  # fmt: skip
            unreadable = np.union1d(unreadable, videos.unreadable)
        return Table(
            name=self.name,
            file=self.name,
            title=f"multi-instance retrieval among {len(values)} videos and {len(texts)} sentences",
            columns=self.columns,
            rows=tuple(rows),
            scalars={
                f"{key}_{row['budget']}_{row['grid']}": row[f"{key}_mean"]
                for row in rows
                for key in ("map", "ndcg")
            },
            videos=len(values),
            unreadable=self._passes.names("test", unreadable),
        )


def _means(both: Mapping[str, Any]) -> dict[str, float]:
    """Means over the queries that have a relevant candidate, and over the two directions."""
    means = {}
    for key, field in (("map", "precision"), ("ndcg", "gain")):
        for way, scores in both.items():
            values = getattr(scores, field)
            defined = values[~np.isnan(values)]
            means[f"{key}_{way}"] = float(defined.mean()) if len(defined) else float("nan")
        means[f"{key}_mean"] = (means[f"{key}_v2t"] + means[f"{key}_t2v"]) / 2
    return means


class VerbsNounsActions:
    """Top-1 of verbs, nouns and actions, all from the probabilities of actions "VERB:NOUN".

    Views are averaged in both ways: as logits before the softmax, and as probabilities. Videos that
    cannot be read count as wrong.
    """

    name, splits = "ek100_cls", ("test",)
    columns = (
        BUDGET,
        Column("grid", lambda row: row["grid"]),
        Column("mean of", lambda row: row["views_averaged"]),
        _share("action", "action_top1"),
        _share("action top-5", "action_top5"),
        _share("mean class", "mean_class"),
        _share("verb", "verb_top1"),
        _share("noun", "noun_top1"),
    )

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet.

        Raises:
          ValueError: if a class is no action.
        """
        self._task, self._passes, self._data = task, Passes(task, mesh, data), data
        names = data.catalog("test").label_names
        if not names:
            raise ValueError("ek100_cls needs classes called VERB:NOUN, as EK100's csv files give")
        self._parts = dict(zip(("verb", "noun"), parse_actions(names), strict=True))

    def run(self, variables: Any) -> Table:
        """Two rows, one a way of averaging views, for every budget on every grid."""
        rows, unreadable = [], np.zeros(0, np.int64)
        for grid in self._passes.grids():
            found, bad = self._run_grid(variables, grid)
            rows += found
            unreadable = np.union1d(unreadable, bad)
        return Table(
            name=self.name,
            file=self.name,
            title=f"actions of {rows[0]['videos']} videos",
            columns=self.columns,
            rows=tuple(rows),
            scalars={
                f"{part}_top1_{row['budget']}_{row['grid']}": row[f"{part}_top1"]
                for row in rows
                if row["views_averaged"] == "logits"
                for part in ("action", "verb", "noun")
            },
            videos=rows[0]["videos"],
            unreadable=self._passes.names("test", unreadable),
        )

    def _run_grid(self, variables: Any, grid: Grid) -> tuple[list, np.ndarray]:
        plans = self._task.eval_plans(grid)
        run = self._passes.run(self._probabilities, plans, grid, variables)
        labels = self._data.catalog("test").labels()
        counted: dict[tuple, list[dict]] = {}
        start = 0
        for outputs in run:
            for budget, output in outputs.items():
                real, readable, *ways = output.value
                here = labels[start : start + int(real.sum())]
                for way, probabilities in zip(("logits", "probabilities"), ways, strict=True):
                    counts = self._counts(probabilities[real], here, readable[real])
                    counted.setdefault((budget, way), []).append(counts)
            start += len(here)
        rows = []
        for (budget, way), batches in counted.items():
            joined = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
            predicted, readable = joined.pop("predicted"), joined.pop("readable")
            shares = {key: float(np.mean(hits)) for key, hits in joined.items()}
            shares["mean_class"] = mean_class_accuracy(predicted, labels)
            rows.append(
                {"budget": budget, "grid": str(grid), "views_averaged": way, **shares,
                 "views": run.views, "videos": len(labels),
                 "unreadable": int(np.sum(~readable))}
            )  # fmt: skip
        return rows, run.unreadable

    def _probabilities(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        logits = self._task.predict(variables, clips, plan).reshape(videos, views, -1)
        of_logits = jax.nn.softmax(jnp.mean(logits, axis=1))
        of_views = jnp.mean(jax.nn.softmax(logits), axis=1)
        return batch["weight"] > 0, batch["readable"], of_logits, of_views

    def _counts(self, probabilities, labels, readable) -> dict[str, np.ndarray]:
        """[N] arrays of some videos: what was right, and the action predicted (-1: unreadable)."""
        hits = {f"action_top{k}": top_k_hits(probabilities, labels, k) & readable for k in (1, 5)}
        for part, of_action in self._parts.items():
            scores = marginal(probabilities, of_action)
            hits[f"{part}_top1"] = top_k_hits(scores, of_action[labels], 1) & readable
        predicted = np.where(readable, probabilities.argmax(axis=1), -1)
        return hits | {"predicted": predicted, "readable": readable}
