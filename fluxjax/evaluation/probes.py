"""kNN and linear probe: how well the classes can be told from frozen features."""

import abc
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from fluxjax.evaluation.base import BUDGET, Column, EvalData, Table, scalar_name
from fluxjax.evaluation.compute import wilson_interval
from fluxjax.evaluation.features import FeatureReader, Features
from fluxjax.evaluation.passes import Passes
from fluxjax.models.layers import unit
from fluxjax.tasks.base import Task
from fluxjax.tokens.grids import parse_grid

QUERIES = 256  # test videos compared with all training videos at a time

COLUMNS = (
    BUDGET,
    Column("grid", lambda row: row["grid"]),
    Column(
        "top-1 (95 % interval)",
        lambda row: f"{row['top1']:.1%} ({row['top1_low']:.1%} to {row['top1_high']:.1%})",
    ),
    Column("trained on", lambda row: str(row["train_videos"])),
)


class Probe(abc.ABC):
    """Base of the probes: features of train and test videos on the first grid and largest budget.

    Subclasses say how classes are predicted; all of them only read the model.
    """

    name: str
    splits = ("train", "test")

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the probe; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)
        self._reader = FeatureReader(self._passes)

    @abc.abstractmethod
    def predict(self, train: Features, test: Features, options: ConfigDict) -> np.ndarray:
        """[M] class numbers of the test videos; `options` is `config.probe`."""

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """top1_BUDGET@GRID of the row; more is better."""
        grid = parse_grid(task.config.eval.grids[0])
        return {scalar_name("top1", next(iter(task.eval_plans(grid))), grid): True}

    def run(self, variables: Any) -> Table:
        """One row."""
        options, grid = self._task.config.probe, self._passes.grids()[0]
        budget, plan = next(iter(self._task.eval_plans(grid).items()))
        count = options.videos or None
        train = self._reader.read(variables, grid, plan, "train", count)
        test = self._reader.read(variables, grid, plan, "test")
        right = int(np.sum(self.predict(train, test, options) == test.labels))
        low, high = wilson_interval(right, test.videos)
        row: Mapping[str, Any] = {
            "budget": budget, "grid": str(grid), "top1": right / test.videos, "top1_low": low,
            "top1_high": high, "train_videos": len(train.labels), "videos": test.videos,
            "unreadable": test.videos - len(test.labels), "features": train.values.shape[1],
        }  # fmt: skip
        return Table(
            name=self.name,
            file=self.name,
            title=f"{self.name} on frozen features of {test.videos} held-out videos",
            columns=COLUMNS,
            rows=(row,),
            scalars={scalar_name("top1", budget, grid): row["top1"]},
            videos=test.videos,
            unreadable=self._passes.names("test", test.unreadable),
        )


class Knn(Probe):
    """Votes of the nearest training videos by cosine (DINO, arXiv 2104.14294, appendix F)."""

    name = "knn"

    def predict(self, train: Features, test: Features, options: ConfigDict) -> np.ndarray:
        """[M] class numbers, see `knn_classes`."""
        return knn_classes(
            train.values, train.labels, test.values, self._task.config.num_classes,
            k=options.k, temperature=options.temperature,
        )  # fmt: skip


class LinearProbe(Probe):
    """Multinomial logistic regression on standardised features."""

    name = "linear_probe"

    def predict(self, train: Features, test: Features, options: ConfigDict) -> np.ndarray:
        """[M] class numbers, see `linear_classes`."""
        return linear_classes(
            train.values, train.labels, test.values, self._task.config.num_classes,
            l2=options.l2, iterations=options.iterations,
        )  # fmt: skip


def knn_classes(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Classes by the k nearest neighbours of the same cosine space, weighted exp(cosine / T).

    Args:
      train: [N, E] float32.
      labels: [N] int.
      test: [M, E] float32.
      classes: K.
      k: neighbours, at most N.
      temperature: T.

    Returns:
      [M] int; ties go to the lower class.
    """

    @jax.jit
    def votes(train, one_hot, test):
        similar, nearest = jax.lax.top_k(unit(test) @ unit(train).T, min(k, len(train)))
        weight = jnp.exp((similar - 1.0) / temperature)  # at most 1: no overflow
        return jnp.einsum("mk,mkc->mc", weight, one_hot[nearest])

    one_hot = jax.nn.one_hot(labels, classes)
    parts = [test[i : i + QUERIES] for i in range(0, len(test), QUERIES)]
    with jax.default_matmul_precision("highest"):
        return np.concatenate([np.argmax(votes(train, one_hot, part), axis=1) for part in parts])


def linear_classes(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    l2: float = 1e-3,
    iterations: int = 200,
) -> np.ndarray:
    """Classes by multinomial logistic regression, fitted by L-BFGS from zeros.

    Minimises mean cross-entropy + l2 / 2 * |W|^2 on features standardised by the training mean and
    deviation; the bias is not penalised.

    Args:
      train: [N, E] float32.
      labels: [N] int.
      test: [M, E] float32.
      classes: K.
      l2: strength of the penalty.
      iterations: of L-BFGS.

    Returns:
      [M] int.
    """
    mean, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)  # a constant feature tells nothing
    train, test = (train - mean) / scale, (test - mean) / scale

    with jax.default_matmul_precision("highest"):
        params = jax.device_get(_fit_linear(train, labels, classes, l2, iterations))
    return np.argmax(test @ params["kernel"] + params["bias"], axis=1)


@functools.partial(jax.jit, static_argnames=("classes", "l2", "iterations"))
def _fit_linear(
    train: jax.Array, labels: jax.Array, classes: int, l2: float, iterations: int
) -> dict[str, jax.Array]:
    """kernel [E, K] and bias [K] float32 of `linear_classes`."""

    def loss(params):
        logits = train @ params["kernel"] + params["bias"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(entropy) + l2 / 2 * jnp.sum(params["kernel"] ** 2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    params = {"kernel": jnp.zeros((train.shape[1], classes)), "bias": jnp.zeros(classes)}
    (params, _), _ = jax.lax.scan(step, (params, solver.init(params)), length=iterations)
    return params
