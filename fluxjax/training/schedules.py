"""Learning rates: optimizer update -> rate. `config.optim.schedule` names one of `SCHEDULES`."""

import types
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def warmup_cosine(
    peak: float, end: float, total_steps: int, warmup_steps: int, start: float = 0.0
) -> optax.Schedule:
    """Linear warm-up that includes both ends, then a half cosine.

    Steps 0 .. W-1 go from `start` to `peak`; step W is at `peak` again, and `end` would be reached
    at step `total_steps` (as the official FluxViT and its ancestors do).

    Raises:
      ValueError: if the warm-up is longer than the training.
    """
    _check_warmup(warmup_steps, total_steps)
    decay_steps = max(total_steps - warmup_steps, 1)
    alpha = end / peak if peak else 0.0
    cosine = optax.cosine_decay_schedule(peak, decay_steps, alpha=alpha)
    if not warmup_steps:
        return cosine
    warmup = optax.linear_schedule(start, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([warmup, cosine], [warmup_steps])


def ramped(
    main: optax.Schedule, warmup_steps: float, total_steps: float, start: float
) -> optax.Schedule:
    """PySlowFast's warm-up: step s < W has the rate at s / W of the way from `start` to main(W).

    `warmup_steps` W may be a fraction: SlowFast warms up for 0.19 epochs.

    Raises:
      ValueError: if the warm-up is longer than the training.
    """
    _check_warmup(warmup_steps, total_steps)
    if not warmup_steps:
        return main

    def schedule(step):
        ramp = start + (main(warmup_steps) - start) * (step / warmup_steps)
        return jnp.where(step < warmup_steps, ramp, main(step))

    return schedule


def step_decay(peak: float, factor: float, boundaries: Sequence[float]) -> optax.Schedule:
    """`peak` times `factor` for every boundary that a step has reached (TSM, TEA, SlowFast)."""
    places = jnp.asarray(sorted(boundaries), jnp.float32)

    def schedule(step):
        reached = jnp.sum(jnp.asarray(step)[..., None] >= places, axis=-1)
        return peak * jnp.power(factor, reached.astype(jnp.float32))

    return schedule


def half_cosine(peak: float, end: float, total_steps: float, first: float = 0.0) -> optax.Schedule:
    """Half a cosine from `peak` at step `first` to `end` at step `total_steps`."""
    length = max(total_steps - first, 1e-9)

    def schedule(step):  # sin(x)^2 for (1 - cos(2 x)) / 2: exact in float32 near the end, too
        return end + (peak - end) * jnp.sin(0.5 * jnp.pi * (total_steps - step) / length) ** 2

    return schedule


def _cosine(optim: ConfigDict, scale: float, total: int, warmup: int) -> optax.Schedule:
    return warmup_cosine(optim.lr * scale, optim.end_lr * scale, total, warmup,
                         optim.warmup_lr * scale)  # fmt: skip


def _slowfast_cosine(optim: ConfigDict, scale: float, total: int, warmup: int) -> optax.Schedule:
    cosine = half_cosine(optim.lr * scale, optim.end_lr * scale, total, warmup)
    return ramped(cosine, warmup, total, optim.warmup_lr * scale)


def _steps(optim: ConfigDict, scale: float, total: int, warmup: int) -> optax.Schedule:
    places = [step / optim.accumulate_steps for step in optim.decay_steps]
    steps = step_decay(optim.lr * scale, optim.decay_factor, places)
    return ramped(steps, warmup, total, optim.warmup_lr * scale)


# (config.optim, factor on rates, updates, updates of warm-up) -> schedule
SCHEDULES: Mapping[str, Callable[[ConfigDict, float, int, int], optax.Schedule]] = (
    types.MappingProxyType(
        {"cosine": _cosine, "slowfast_cosine": _slowfast_cosine, "steps": _steps}
    )
)


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The schedule of a training config, optimizer update -> learning rate.

    Rates are given per 256 clips and scaled by the clips of an update, batch_size *
    optim.accumulate_steps. The config counts total_steps, warmup_steps and decay_steps in batches
    read; the schedule has as many updates as these make.
    """
    optim, accumulated = config.optim, config.optim.accumulate_steps
    scale = config.batch_size * accumulated / 256
    total, warmup = config.total_steps // accumulated, optim.warmup_steps // accumulated
    return SCHEDULES[optim.schedule](optim, scale, total, warmup)


def _check_warmup(warmup_steps: float, total_steps: float) -> None:
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warm-up of {warmup_steps} steps does not fit {total_steps} steps")
