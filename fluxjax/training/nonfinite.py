"""Steps with non-finite numbers: noticed and skipped on the device, reported by the host.

The step itself decides that its update does not count (`guard`), so the state stays as it was
whenever the host learns of it. The host looks at a step's verdict when a later step is under way
(`NonFiniteWatch`): training is not slowed down, and never runs far ahead of the report.
"""

import collections
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

log = logging.getLogger(__name__)

FIRST_BAD = "first_bad_gradient"
"""Metric: position of the first leaf with a non-finite gradient, -1 where there is none."""
FINITE = "finite"
"""Metric: whether the loss and all gradients are."""

IN_FLIGHT = 2  # steps under way before the oldest one's verdict is asked for


class NonFiniteError(ArithmeticError):
    """More steps in a row gave non-finite numbers than the config allows."""


def verdict(loss: jax.Array, grads: Any) -> dict[str, jax.Array]:
    """Metrics `FINITE` (bool scalar) and `FIRST_BAD` (int32 scalar) of a step.

    A leaf counts as bad if the sum of its squares is not finite: that is the sum which clipping
    and the norm are made of, and XLA computes it once.
    """
    leaves = jax.tree.leaves(grads)
    bad = jnp.stack([~jnp.isfinite(jnp.sum(jnp.square(leaf))) for leaf in leaves])
    first = jnp.where(jnp.any(bad), jnp.argmax(bad), -1).astype(jnp.int32)
    return {FINITE: jnp.isfinite(loss) & ~jnp.any(bad), FIRST_BAD: first}


def guard(finite: jax.Array, new: Any, old: Any) -> Any:
    """`new` where `finite`, else `old`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def gradient_paths(params: Any) -> list[str]:
    """Names of the leaves in the order of `FIRST_BAD`, such as patch_embed/proj/kernel."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


class NonFiniteWatch:
    """Reads the verdicts of finished steps and stops the run when there are too many bad ones.

    Attributes:
      skipped: updates left out so far.
    """

    def __init__(self, paths: list[str], allowed: int):
        """Starts counting.

        Args:
          paths: see `gradient_paths`.
          allowed: bad steps in a row that are only reported; one more raises.
        """
        self.skipped = 0
        self._paths, self._allowed, self._row = paths, allowed, 0
        self._pending: collections.deque = collections.deque()

    def add(
        self, step: int, metrics: Mapping[str, jax.Array], batch: Mapping[str, np.ndarray]
    ) -> None:
        """Notes a step that was just begun, and reads the verdicts of the steps long before it.

        Args:
          step: its number, from 1.
          metrics: of the step, still on the device.
          batch: the host's rows, of which `example` and `grid` are named in the report.

        Raises:
          NonFiniteError: if too many steps in a row were bad.
        """
        rows = {name: batch[name] for name in ("example", "grid") if name in batch}
        self._pending.append((step, metrics, rows))
        while len(self._pending) > IN_FLIGHT:
            self._read(*self._pending.popleft())

    def settle(self) -> None:
        """Waits for all steps and reads their verdicts; raises as `add` does."""
        while self._pending:
            self._read(*self._pending.popleft())

    def _read(self, step: int, metrics: Mapping[str, jax.Array], batch: Mapping) -> None:
        if bool(metrics[FINITE]):
            self._row = 0
            return
        self._row += 1
        self.skipped += 1
        report = describe(step, jax.device_get(metrics), batch, self._paths)
        if self._row > self._allowed:
            raise NonFiniteError(
                f"{report}. That makes {self._row} in a row, max_skipped_steps="
                f"{self._allowed}; the state holds none of them. Lower optim.lr, set "
                "optim.clip_norm, or look at these videos"
            )
        log.warning("%s (%d in a row of at most %d)", report, self._row, self._allowed)


def describe(
    step: int, metrics: Mapping[str, Any], batch: Mapping[str, np.ndarray], paths: list[str]
) -> str:
    """What is known of a bad step: its loss terms, first bad gradient, examples and grids."""
    skip = (FINITE, FIRST_BAD, "learning_rate")
    terms = ", ".join(f"{k} {float(v):g}" for k, v in metrics.items() if k not in skip)
    first = int(metrics[FIRST_BAD])
    gradient = f"first bad gradient {paths[first]}" if first >= 0 else "all gradients are finite"
    examples = ", ".join(str(example) for example in np.ravel(batch.get("example", ())))
    grids = sorted({"x".join(map(str, grid)) for grid in np.atleast_2d(batch.get("grid", ()))})
    return (
        f"step {step} is not finite and changes nothing: {terms}; {gradient}; "
        f"examples [{examples}]; grids (T, H, W) {', '.join(grids)}"
    )
