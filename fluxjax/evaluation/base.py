"""The contract of evaluators: variables in, a table out. Who runs and writes them knows no more."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fluxjax.evaluation.answers import Answers
from fluxjax.tokens.examples import ExampleSpec

HostBatch = Mapping[str, np.ndarray]
Row = Mapping[str, Any]


class EvalData(Protocol):
    """The videos of a run; `data_pipelines.from_config.VideoData` is one."""

    def eval_batches(
        self, spec: ExampleSpec, split: str = "test", videos: int | None = None
    ) -> Iterator[HostBatch]:
        """Every video of a split once, see `data_pipelines.loader.eval_batches`."""

    def catalog(self, split: str) -> Any:
        """The records of a split."""


def scalar_name(what: str, budget: int | None, grid: object) -> str:
    """What a figure of a budget and grid is called everywhere: top1_512@8x224.

    A model without token budgets has none in the name: top1@8x224.
    """
    return f"{what}@{grid}" if budget is None else f"{what}_{budget}@{grid}"


class Column(NamedTuple):
    """A column of a table as people see it."""

    head: str
    text: Callable[[Row], str]


BUDGET = Column("budget", lambda row: "all" if row["budget"] is None else str(row["budget"]))


@dataclasses.dataclass(frozen=True)
class Table:
    """What an evaluator measured.

    Attributes:
      name: of the evaluator.
      file: what its files are called, without the ending.
      title: one line above the table.
      columns: what the console shows.
      rows: all that was measured, JSON values.
      scalars: name -> value, for TensorBoard and `config.checkpoint.best`; see `scalar_name`.
      videos: that were counted, each once.
      unreadable: names of those among them that could not be read.
      answers: for every video, where classes are told apart; the writer makes files of them.
      names: of the videos that were counted, in order; read only when it is called.
      picture: [H, W, 3] uint8, where there is something to look at.
    """

    name: str
    file: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    scalars: Mapping[str, float]
    videos: int
    unreadable: tuple[str, ...] = ()
    answers: Answers | None = None
    names: Callable[[], Sequence[str]] | None = None
    picture: np.ndarray | None = None


class Evaluator(Protocol):
    """One kind of measurement; made once a run as `kind(task, mesh, data)`, run at any step.

    Attributes:
      name: of the kind.
      splits: that it reads, of train and test.
    """

    name: str
    splits: tuple[str, ...]

    @staticmethod
    def scalars(task: Any) -> dict[str, bool]:
        """Names of the scalars that a table will have -> whether more is better, as for accuracy.

        Known of the task alone, before anything is read or compiled.
        """

    def run(self, variables: Any) -> Table:
        """Measures variables; every video is counted once for any number of processes."""
