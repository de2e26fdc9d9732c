"""Whether a config may go on with what a workdir holds: asked before anything there is changed."""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from fluxjax.checkpoints.paths import local_path
from fluxjax.checkpoints.training import check_fits, newest_manifest
from fluxjax.config import resume
from fluxjax.config import stored as stored_config
from fluxjax.config.lengths import LENGTHS
from fluxjax.config.ranges import get
from fluxjax.training.averaging import initial_share

log = logging.getLogger(__name__)

CONFIG = "config.json"  # the resolved config
MODEL = "model"  # the inference checkpoint
BEST = "best"  # another: the best of config.checkpoint.best
PRETRAIN = "pretrain"  # the run that config.pretrain describes
_BY_DATA = ("num_classes", "optim.warmup_steps", "eval.every_steps")
_MUCH = 0.1  # of the initial weights in the average at the end


def check_folder(path: str) -> pathlib.Path:
    """The folder that --workdir names.

    Raises:
      ValueError: if it is remote, or a file.
    """
    try:
        folder = pathlib.Path(local_path(path))
    except ValueError as error:
        raise ValueError(f"--workdir: {error}") from error
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--workdir={folder} is a file; name a folder, which may not exist yet")
    return folder


def check_resume(workdir: pathlib.Path, config: ConfigDict, abstract_state: Any) -> None:
    """Refuses to go on with another run than the workdir holds; a new one is always fine.

    Keys that may change and do are named in the log. Reads only.

    Raises:
      ValueError: naming the keys that must not change with both values, or what a checkpoint has
        that does not fit; and the remedy.
    """
    newest = newest_manifest(workdir)
    if newest is not None and newest[0] >= config.total_steps:
        _check_unchanged(workdir, config, "a finished", resume.HARMLESS)
    elif newest is not None or (workdir / MODEL).is_dir() or (workdir / BEST).is_dir():
        _check_unchanged(workdir, config, "a resumed", (*resume.HARMLESS, *resume.FROM_NOW_ON))
    pretrain = workdir / PRETRAIN
    if config.pretrain is not None and (pretrain / MODEL).is_dir():
        _check_unchanged(pretrain, config.pretrain, "a finished", resume.HARMLESS)
    if newest is not None:
        check_fits(workdir, *newest, abstract_state)
    if config.optim.ema is not None:
        _warn_of_initial_weights(config, *(newest or (0, {})))


def _check_unchanged(
    workdir: pathlib.Path, config: ConfigDict, what: str, allowed: tuple[str, ...]
) -> None:
    """Compares a config with that of the workdir's run; `allowed` are keys that may change."""
    path = workdir / CONFIG
    if not path.is_file():
        return
    changed = resume.changes(stored_config.get_config(str(path)), config)
    # None: what the data say, once it is opened.
    open_keys = {key for key in _BY_DATA if get(config, key) is None}
    open_keys |= set(LENGTHS) if config.total_steps is None else set()
    changed = {key: values for key, values in changed.items() if key not in open_keys}
    if keys := resume.refused(changed, allowed):
        moved = f"; if only a path has changed, correct it in {path}"
        raise ValueError(
            f"{workdir} holds {what} run, which cannot change to "
            f"{resume.in_words(changed, keys)}. Use another --workdir, or go on with "
            f"--config={path}{moved if set(keys) & set(resume.PATHS) else ''}"
        )
    if changed:
        log.info("%s: going on with %s", workdir, resume.in_words(changed, list(changed)))


def _warn_of_initial_weights(config: ConfigDict, step: int, record: Mapping[str, Any]) -> None:
    """Says so where the moving average would still be much of what the training began with."""
    optim, accumulated = config.optim, config.optim.accumulate_steps
    before = ConfigDict({"ema": optim.ema, "ema_warmup": optim.ema_warmup})
    if step:  # the average of a checkpoint from before there was a warm-up had none
        stored = (record.get("config") or {}).get("optim") or {}
        before.ema = stored.get("ema") or optim.ema
        before.ema_warmup = stored.get("ema_warmup", False)
    done, total = step // accumulated, config.total_steps // accumulated
    share = initial_share(before, 0, done) * initial_share(optim, done, total)
    if share > _MUCH * 1.001:  # one update with warm-up leaves a tenth, give or take its rounding
        remedy = "" if optim.ema_warmup else ", or optim.ema_warmup=True"
        log.warning(
            "config.optim.ema=%g: after %d updates the average, which is what is evaluated and "
            "saved, will still hold %.0f %% of the initial weights; use a smaller decay or more "
            "steps%s", optim.ema, total, 100 * share, remedy,
        )  # fmt: skip
