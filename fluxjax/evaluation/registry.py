"""Names of evaluators. One of one's own is registered by a module that `config.imports` names."""

from collections.abc import Callable

import jax

from fluxjax.evaluation.base import EvalData, Evaluator
from fluxjax.evaluation.classification import Classification
from fluxjax.evaluation.epic_kitchens import MultiInstanceRetrieval, VerbsNounsActions
from fluxjax.evaluation.held_out import HeldOutLoss
from fluxjax.evaluation.probes import Knn, LinearProbe
from fluxjax.evaluation.questions import AnswerAccuracy, MultipleChoice
from fluxjax.evaluation.reconstructions import Reconstructions
from fluxjax.evaluation.reranked import Reranked
from fluxjax.evaluation.retrieval import Retrieval
from fluxjax.evaluation.zero_shot import ZeroShot
from fluxjax.tasks.base import Task

# Made as kind(task, mesh, data); `kind.splits` and `kind.scalars` are known before.
Kind = Callable[[Task, jax.sharding.Mesh, EvalData], Evaluator]

_KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Classification, HeldOutLoss, Knn, LinearProbe, Reconstructions, Retrieval, Reranked,
        AnswerAccuracy, MultipleChoice, ZeroShot, MultiInstanceRetrieval, VerbsNounsActions,
    )
}  # fmt: skip


def register_evaluator(name: str, kind: Kind) -> None:
    """Makes a task's `evaluators()` and `config.eval.evaluators` know a name.

    Raises:
      ValueError: if the name is another evaluator's.
    """
    if _KINDS.get(name, kind) is not kind:
        raise ValueError(f"there is an evaluator {name!r} already")
    _KINDS[name] = kind


def splits_read(task: Task) -> tuple[str, ...]:
    """Splits that the evaluators of a task read.

    Raises:
      ValueError: on an unknown name.
    """
    return tuple(sorted({split for kind in _kinds_of(task) for split in kind.splits}))


def scalars_known(task: Task) -> dict[str, bool]:
    """Names of all scalars of an evaluation, see `writer.scalars_of` -> whether more is better.

    Raises:
      ValueError: on an unknown evaluator.
    """
    names: dict[str, bool] = {}
    for number, kind in enumerate(_kinds_of(task)):
        prefix = f"{kind.name}/" if number else ""
        names |= {prefix + name: more for name, more in kind.scalars(task).items()}
    return names


def make_evaluators(task: Task, mesh: jax.sharding.Mesh, data: EvalData) -> list[Evaluator]:
    """Those of `config.eval.evaluators`, or of the task where that is empty; the first is the main.

    Raises:
      ValueError: on an unknown name.
    """
    return [kind(task, mesh, data) for kind in _kinds_of(task)]


def _kinds_of(task: Task) -> list[Kind]:
    names = tuple(task.config.eval.evaluators) or task.evaluators()
    for name in names:
        if name not in _KINDS:
            raise ValueError(
                f"unknown evaluator {name!r} in config.eval.evaluators; known: {sorted(_KINDS)}"
            )
    return [_KINDS[name] for name in names]
