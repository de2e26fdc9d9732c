"""Questions about videos: answers from a list, and the right one of a few captions."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table, names_on_grids, scalar_name
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.embeddings import EmbeddingReader
from fluxjax.evaluation.matching import Matcher, Pairs
from fluxjax.evaluation.passes import Passes
from fluxjax.tasks.answer_ranking import choice_scores
from fluxjax.tasks.base import Plan, Task
from fluxjax.tasks.umt_terms import Texts
from fluxjax.tokens.grids import Grid

_COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column(
        "accuracy (95 % interval)",
        lambda row: f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
    ),
    Column("questions", lambda row: str(row["videos"])),
)


class _Accuracy:
    """What both kinds of questions have in common: rows of grids and budgets, scalar accuracy."""

    name, splits, title = "", ("test",), ""
    columns = _COLUMNS

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the table; nothing is compiled or read yet."""
        self._task, self._data = task, data
        self._passes = Passes(task, mesh, data)

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """accuracy of every row."""
        return names_on_grids(task, "accuracy")

    def run(self, variables: Any) -> Table:
        """A row for every budget on every grid; a video that cannot be read is answered wrongly."""
        rows, unreadable = [], np.zeros(0, np.int64)
        for grid in self._passes.grids():
            for budget, plan in self._task.eval_plans(grid).items():
                right, bad, told = self._right(variables, grid, plan)
                low, high = wilson_interval(int(right.sum()), len(right))
                rows.append(
                    {"budget": budget, "grid": str(grid), "accuracy": float(right.mean()),
                     "low": low, "high": high, **told, "videos": len(right)}
                )  # fmt: skip
                unreadable = np.union1d(unreadable, bad)
        return Table(
            name=self.name,
            file=self.name,
            title=f"{self.title} about {len(right)} videos",
            columns=self.columns,
            rows=tuple(rows),
            scalars={
                scalar_name("accuracy", row["budget"], row["grid"]): row["accuracy"] for row in rows
            },
            videos=len(right),
            unreadable=self._passes.names("test", unreadable),
        )

    def _right(
        self, variables: Any, grid: Grid, plan: Plan
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
        """Whether each question is answered right [N], unreadable videos, more about the row."""
        raise NotImplementedError


class AnswerAccuracy(_Accuracy):
    """The likeliest of a list of answers is one that people gave, letter by letter.

    The list is `config.answer.choices`, or all answers of the test data.
    """

    name, title = "answers", "questions"
    columns = (*_COLUMNS, Column("answers ranked", lambda row: str(row["choices"])))

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Reads the list of answers.

        Raises:
          OSError, ValueError: if it cannot be read, the task ranks no answers, or a question has
            none.
        """
        super().__init__(task, mesh, data)
        if not hasattr(task, "rank_answers"):
            raise ValueError(f"evaluator 'answers' needs task 'answer', not {task.config.task!r}")
        self._given = data.catalog("test").answers()
        if missing := [i for i, answers in enumerate(self._given) if not answers]:
            raise ValueError(
                f"test video {missing[0]} has no answer; evaluator 'answers' needs annotations "
                "with the keys question and answer"
            )
        self._choices = _choices(task.config.answer.choices, self._given)
        encoded = data.encode(self._choices, task.answer_spec())
        places = np.arange(encoded["text"].shape[1])
        mask = (places < encoded["text_length"][:, None]).astype(np.int32)
        self._texts = Texts(encoded["text"], mask)

    def _right(
        self, variables: Any, grid: Grid, plan: Plan
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
        run = self._passes.run(self._best, {None: plan}, grid, variables)
        best = []
        for outputs in run:
            real, found = outputs[None].value
            best.append(found[real])
        right = [
            number >= 0 and self._choices[number] in given
            for number, given in zip(np.concatenate(best), self._given, strict=True)
        ]
        told = {
            "choices": len(self._choices),
            "first_token_twice": self._task.config.answer.first_token_twice,
        }
        return np.array(right), run.unreadable, told

    def _best(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        questions = {n: jnp.repeat(batch[n], views, axis=0) for n in ("text", "text_length")}
        ranked = self._task.rank_answers(variables, clips | questions, self._texts, plan)
        rows = jnp.arange(videos * views)[:, None] // views
        scores = jnp.zeros((videos, len(self._choices)))
        scores = scores.at[rows, ranked.ids].add(ranked.probabilities)  # the sum over the views
        best = jnp.where(batch["readable"], jnp.argmax(scores, axis=1), -1)
        return batch["weight"] > 0, best


def _choices(path: str, given: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The answers of a JSON list, or the distinct ones that were given."""
    if not path:
        return tuple(dict.fromkeys(answer for answers in given for answer in answers))
    try:
        answers = json.loads(pathlib.Path(path).expanduser().read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"config.answer.choices={path} is no JSON: {error}") from error
    if not isinstance(answers, list) or not answers or not all(isinstance(x, str) for x in answers):
        raise ValueError(f"config.answer.choices={path} must be a JSON list of texts")
    return tuple(dict.fromkeys(answers))


class MultipleChoice(_Accuracy):
    """The right one of some captions of each video, by matching head and contrast together.

    Source: OpenGVLab/unmasked_teacher, multi_modality, tasks/retrieval_mc.py.
    """

    name, title = "multiple_choice", "multiple choice"

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Reads the options.

        Raises:
          ValueError: if the task matches no pairs, or a video has no options or another number.
        """
        super().__init__(task, mesh, data)
        if not hasattr(task, "match"):
            raise ValueError(
                "evaluator 'multiple_choice' needs a task that matches pairs, such as 'retrieve'; "
                f"{task.config.task!r} does not"
            )
        self._options = data.catalog("test").options()
        counts = {len(options) for options in self._options}
        if len(counts) > 1 or 0 in counts:
            raise ValueError(
                f"multiple_choice needs as many options of every video, not {sorted(counts)}: "
                "annotations with a list of captions and the number of the right one as answer"
            )
        self._matcher = Matcher(self._passes, data)
        self._reader = EmbeddingReader(self._passes)

    def _right(
        self, variables: Any, grid: Grid, plan: Plan
    ) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
        texts = tuple(dict.fromkeys(text for options in self._options for text in options))
        numbers = {text: number for number, text in enumerate(texts)}
        options = np.array([[numbers[text] for text in said] for said in self._options])
        videos = self._reader.videos(variables, grid, {None: plan})
        embedded = self._reader.texts(variables, grid, plan, texts)
        readable = np.flatnonzero(videos.readable)
        asked = options[readable]
        pairs = Pairs.of(np.repeat(readable, options.shape[1]), asked.reshape(-1))
        states = self._matcher.texts(variables, grid, plan, texts)
        logits = self._matcher.logits(variables, grid, plan, pairs, states)
        logits = logits[pairs.find(readable[:, None], asked)]
        cosines = np.einsum("be,boe->bo", videos.values[None][readable], embedded[asked])
        scores = choice_scores(logits, cosines, self._task.temperature(variables))
        right = np.zeros(len(options), bool)
        labels = self._data.catalog("test").labels()
        right[readable] = np.argmax(scores, axis=1) == labels[readable]
        return right, videos.unreadable, {"options": options.shape[1]}
