"""How long a run is, in steps: what epochs come to once the number of training videos is known."""

import logging
import math

from ml_collections import ConfigDict

from fluxjax.config.ranges import get

log = logging.getLogger(__name__)

LENGTHS = ("total_steps", "epochs")
_EVALUATIONS = 10  # of a run, at most, where eval.every_steps is None


def check_lengths(config: ConfigDict) -> None:
    """Refuses lengths that cannot work, as far as they are known.

    Raises:
      ValueError: naming the key, the value and the remedy.
    """
    total, epochs, warmup = config.total_steps, config.epochs, config.optim.warmup_steps
    if total is None and epochs is None:
        raise ValueError("config.total_steps and config.epochs are both None; set one of them")
    if total is not None and epochs is not None:
        raise ValueError(
            f"config.epochs={epochs:g} and config.total_steps={total} both say how long to train; "
            "give one of them, and None for the other in a config file"
        )
    if total is not None and warmup is not None and warmup > total:
        raise ValueError(
            f"config.optim.warmup_steps={warmup} must lie between 0 and total_steps={total}"
        )
    accumulated = config.optim.accumulate_steps
    for key in ("total_steps", "optim.warmup_steps"):
        value = get(config, key)
        if value is not None and value % accumulated:
            raise ValueError(
                f"config.{key}={value} must be a multiple of optim.accumulate_steps={accumulated}"
            )


def resolve_lengths(config: ConfigDict, videos: int) -> None:
    """Puts steps in the place of epochs, and of every length that is None.

    An epoch reads every training video once, `data.repeats` clips of it. The steps of some epochs
    are rounded up, to whole optimizer updates.

    Args:
      config: filled in place.
      videos: that are trained on.

    Raises:
      ValueError: as `check_lengths`.
    """
    accumulated = config.optim.accumulate_steps
    per_epoch = videos * config.data.repeats / config.batch_size
    if config.epochs is not None:
        updates = max(1, math.ceil(round(config.epochs * per_epoch / accumulated, 6)))
        log.info("%g epochs of %d videos are %d steps of %d clips",
                 config.epochs, videos, updates * accumulated, config.batch_size)  # fmt: skip
        config.total_steps, config.epochs = updates * accumulated, None
    total = config.total_steps
    if config.optim.warmup_steps is None:
        config.optim.warmup_steps = total // 10 // accumulated * accumulated
    if config.eval.every_steps is None:
        config.eval.every_steps = max(math.ceil(per_epoch), math.ceil(total / _EVALUATIONS))
    check_lengths(config)


def take_given(config: ConfigDict, given: set[str], section: str = "") -> None:
    """Of total_steps and epochs, the one that the command line gives replaces the recipe's.

    Args:
      config: with the command line's values; changed in place.
      given: dotted keys of the command line.
      section: which part of the keys `config` is.
    """
    said = [key for key in LENGTHS if section + key in given]
    if len(said) == 1:
        (other,) = set(LENGTHS) - set(said)
        config[other] = None
    if config.get("pretrain") is not None:
        take_given(config.pretrain, given, f"{section}pretrain.")
