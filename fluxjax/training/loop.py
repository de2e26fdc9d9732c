"""The train loop: state, mesh, checkpoints and metrics. It knows no model and no task by name."""

import contextlib
import dataclasses
import functools
import logging
import time
import types
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks.base import Plan, Task, constants_of
from fluxjax.training import memory
from fluxjax.training import mesh as meshes
from fluxjax.training.averaging import replaced_share
from fluxjax.training.compilation import compile_program
from fluxjax.training.nonfinite import FINITE, NonFiniteWatch, gradient_paths, guard, verdict
from fluxjax.training.optimizers import make_optimizer, num_updates
from fluxjax.training.profiling import StepProfiler
from fluxjax.training.progress import Progress
from fluxjax.training.schedules import learning_rate
from fluxjax.training.signals import Stopped, StopSignals
from fluxjax.training.state import (
    TrainState,
    create_state,
    fresh_variables,
    split_params,
    state_of,
)

log = logging.getLogger(__name__)

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass
class Trainer:
    """Programs and placements of one training run.

    Attributes:
      task: what is trained.
      mesh: of all devices.
      abstract_state: shapes, dtypes and shardings of the state.
      abstract_constants: those of what the task reads beside it.
    """

    task: Task
    mesh: jax.sharding.Mesh
    abstract_state: TrainState
    abstract_constants: Any
    _create: Callable[[], TrainState]
    _optimizer: optax.GradientTransformation
    _schedule: optax.Schedule

    @classmethod
    def create(cls, task: Task, mesh: jax.sharding.Mesh | None = None) -> "Trainer":
        """Traces the initial state; nothing is computed or compiled yet."""
        config = task.config
        mesh = meshes.make_mesh(config.mesh) if mesh is None else mesh
        shards = meshes.batch_shards(mesh)
        if config.batch_size % shards:
            raise ValueError(
                f"batch_size={config.batch_size} must be a multiple of the {shards} devices along "
                f"the mesh axes {meshes.BATCH_AXES}"
            )
        key = jax.random.key(config.seed)
        params = jax.eval_shape(functools.partial(fresh_variables, task), key)["params"]
        groups = task.groups(params)
        schedule = learning_rate(config)
        optimizer = make_optimizer(config, split_params(groups, groups)[0], schedule)

        def create(key):
            return create_state(task, optimizer, key, config.optim.ema is not None)

        state = jax.eval_shape(create, key)
        state = meshes.abstract(state, meshes.shardings(state, mesh))
        make = lambda: jax.jit(create, out_shardings=placement(state))(key)  # noqa: E731
        constants = dict(constants_of(task).shapes)
        constants = meshes.abstract(constants, meshes.shardings(constants, mesh))
        return cls(task, mesh, state, constants, make, optimizer, schedule)

    @functools.cached_property
    def constants(self) -> Any:
        """What the task reads beside its state, loaded on first use and placed on the mesh."""
        loaded = dict(constants_of(self.task).load())
        if not loaded:
            return loaded
        return jax.jit(lambda x: x, out_shardings=placement(self.abstract_constants))(loaded)

    @property
    def step_constants(self) -> tuple[Any, ...]:
        """What a step is given after state and batch: the constants, or nothing without any."""
        return (self.constants,) if self.abstract_constants else ()

    def initial_state(self) -> TrainState:
        """A state at step 0, placed on the mesh: random, or started from `config.init_from`.

        Raises:
          ValueError: if the checkpoint there does not fit the task's model.
        """
        config = self.task.config
        state = self._create()
        if config.init_from is None:
            return state
        variables = self.task.start_from(config.init_from, state.variables())

        def create(variables):
            return state_of(self.task, self._optimizer, variables, config.optim.ema is not None)

        return jax.jit(create, out_shardings=placement(self.abstract_state))(variables)

    def compile_steps(self, check_memory: bool = True) -> list[Callable]:
        """One program a plan: (state, batch, *step_constants) -> (state, metrics).

        The state is donated.

        Args:
          check_memory: refuse what does not fit into a device, if possible before compilation.

        Raises:
          ValueError: if a step does not fit into the memory of a device.
        """
        config = self.task.config
        state, cut = placement(self.abstract_state), meshes.batch_sharding(self.mesh)
        constants = (self.abstract_constants,) if self.abstract_constants else ()
        batch = meshes.abstract(self.task.batch_spec(config.batch_size), cut)
        programs = []
        for plan in self.task.plans():
            step = jax.jit(
                lambda state, batch, *more, plan=plan: self.step(state, batch, plan, *more),
                in_shardings=(state, cut, *placement(constants)),
                out_shardings=(state, meshes.replicated(self.mesh)),
                donate_argnums=0,
            )
            name = f"train step {plan.name}"
            arguments = (self.abstract_state, batch, *constants)
            with meshes.activations_on(self.mesh):
                if check_memory:
                    shards = meshes.batch_shards(self.mesh)
                    memory.check_estimate(name, step.trace(*arguments), arguments, shards)
                programs.append(compile_program(name, step, *arguments))
            if check_memory:
                memory.check_program(name, programs[-1], arguments)
        return programs

    def step(
        self,
        state: TrainState,
        batch: Mapping[str, jax.Array],
        plan: Plan,
        constants: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update, of the gradient of the task's loss: what `compile_steps` compiles."""
        config = self.task.config
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)

        def loss(params):
            output = self.task.loss({**state.variables(params), **constants}, batch, key, plan)
            return output.total, output

        (total, output), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        done = num_updates(state.opt_state)
        ema = state.ema
        if ema is not None:
            # While gradients only accumulate, averaging would weigh the same parameters again.
            moved = num_updates(opt_state) > done
            share = jnp.where(moved, replaced_share(config.optim, done), 0.0)
            ema = optax.incremental_update(params, ema, share)
        metrics = {
            "loss": total,
            **{name: value for name, (value, _) in output.terms.items()},
            **output.metrics,
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": jnp.asarray(self._schedule(done), jnp.float32),
            **verdict(total, grads),
        }
        changed = state.replace(
            params=params,
            mutable={**state.mutable, **output.mutable},
            opt_state=opt_state,
            ema=ema,
        )
        state = guard(metrics[FINITE], changed, state)
        return state.replace(step=state.step + 1), metrics


def placement(state: Any) -> Any:
    """The shardings of an abstract state's leaves."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def train(
    trainer: Trainer,
    batches: Callable[[int], Generator[HostBatch, None, None]],
    checkpoints: Checkpoints,
    report: Callable[[int, str, Mapping[str, float]], None],
    evaluate: Callable[[int, TrainState], None] | None = None,
    stop: StopSignals | None = None,
    profiler: StepProfiler | None = None,
) -> TrainState:
    """Trains until `config.total_steps`, from the newest checkpoint where there is one.

    Args:
      trainer: see `Trainer.create`.
      batches: step -> iterator over this process's host batches from that step on.
      checkpoints: where states are saved and resumed from.
      report: called with (step, progress line, scalars) every `config.log_every` steps.
      evaluate: called every `config.eval.every_steps` steps, behind a checkpoint.
      stop: ends the training in whatever it does, with a checkpoint of the last finished step.
      profiler: traces the steps it is made for.

    Returns:
      The final state.

    Raises:
      Stopped: if `stop` says so.
      NonFiniteError: after more than `config.max_skipped_steps` bad steps in a row.
    """
    config, total = trainer.task.config, trainer.task.config.total_steps
    stop = StopSignals() if stop is None else stop
    profiler = StepProfiler((), "") if profiler is None else profiler
    state = stop.call(functools.partial(resume_or_create, trainer, checkpoints), 0)
    first = done = int(state.step)
    if first >= total:
        log.info("nothing to train: step %d of %d is reached", first, total)
        return state
    programs, constants = stop.call(trainer.compile_steps, first), trainer.step_constants
    progress = Progress(first, total, config.batch_size)
    watch = NonFiniteWatch(gradient_paths(state.params), config.max_skipped_steps)
    feed = device_batches(batches(first), trainer.mesh, trainer.task.batch_spec(config.batch_size))
    with _closed_in_the_end(feed, profiler, stop):
        try:
            for done, batch, rows, waited in _waited_for(feed, range(first, total), stop):
                profiler.before(done)
                state, metrics = programs[(done - 1) % len(programs)](state, batch, *constants)
                profiler.after(done, metrics)
                watch.add(done, metrics, rows)
                progress.add(metrics, waited)
                if done % config.log_every == 0 or done == total:
                    report(done, *progress.flush(done))
                saves, evaluates = _due(config, done, evaluate is not None)
                if saves:
                    _save(checkpoints, watch, done, state)
                if evaluates:
                    stop.call(functools.partial(evaluate, done, state), done)
        except Stopped:
            if done > first:
                _save(checkpoints, watch, done, state)
            raise
    return state


def _waited_for(feed: Iterator, steps: range, stop: StopSignals) -> Iterator[tuple]:
    """(steps done with it, arrays, host batch, seconds waited for it) of every step's batch."""
    for step in steps:
        start = time.perf_counter()
        batch, rows = stop.call(functools.partial(next, feed), step)
        yield step + 1, batch, rows, time.perf_counter() - start


def _due(config: ConfigDict, done: int, evaluates: bool) -> tuple[bool, bool]:
    """Whether a checkpoint and an evaluation follow a step; evaluations are behind a checkpoint."""
    last = done == config.total_steps
    every = config.eval.every_steps if evaluates else 0
    evaluation = bool(every) and done % every == 0 and not last
    return evaluation or last or done % config.checkpoint.every_steps == 0, evaluation


def _save(checkpoints: Checkpoints, watch: NonFiniteWatch, done: int, state: TrainState) -> None:
    watch.settle()  # a run that must end for bad steps does not put them behind it
    checkpoints.save(done, state)


@contextlib.contextmanager
def _closed_in_the_end(
    feed: Generator, profiler: StepProfiler, stop: StopSignals
) -> Iterator[None]:
    try:
        yield
    finally:
        profiler.close()
        # On any error, too: decoding threads that outlive the loop would hang the exit.
        if not stop.abandoned:
            feed.close()


def resume_or_create(trainer: Trainer, checkpoints: Checkpoints) -> TrainState:
    """The state of the newest whole checkpoint, or a fresh one; see `restore_newest`."""
    state = checkpoints.restore_newest(trainer.abstract_state)
    if state is None:
        return trainer.initial_state()
    if trainer.task.config.init_from is not None:
        log.info("init_from=%s is not used: the run has begun", trainer.task.config.init_from)
    return state


def device_batches(
    batches: Generator[HostBatch, None, None], mesh: jax.sharding.Mesh, names: Collection[str]
) -> Generator[tuple[dict[str, jax.Array], HostBatch], None, None]:
    """(the named arrays on the devices, the host batch), copied one batch ahead of their use."""
    ahead: tuple[dict[str, jax.Array], HostBatch] | None = None
    with contextlib.closing(batches):
        for batch in batches:
            current, ahead = ahead, (meshes.put_batch({k: batch[k] for k in names}, mesh), batch)
            if current is not None:
                yield current
    if ahead is not None:
        yield ahead
