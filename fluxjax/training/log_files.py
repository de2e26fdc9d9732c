"""WORKDIR/log.jsonl: a line for what was measured at a step, of training and of evaluations."""

import json
import logging
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

LOG = "log.jsonl"
_Key = tuple[int, frozenset[str]]  # step and names: what a line must not share with another

log = logging.getLogger(__name__)


class LogFile:
    """The scalars of a run as JSON lines; a CLU metric writer of scalars.

    ``{"step": 20, "time": 1790000000.123, "train/loss": 1.5}``: the step, seconds since 1970, and
    the scalars by the names that TensorBoard has. One that is not finite is null: JSON has no word
    for it. Nothing is there twice, see `begin` and `write_scalars`.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads what earlier runs have written, without a line that was cut short."""
        self._path = pathlib.Path(path)
        text = ""
        if self._path.exists():
            text = self._path.read_text(encoding="utf-8", errors="replace")
        self._lines: dict[_Key, str] = {}
        for line in text.splitlines():
            key = _key(line)
            if key is not None:
                self._lines[key] = line
        if text != _text(self._lines):
            log.warning("%s: lines that were cut short are dropped", self._path)
            self._rewrite()

    def begin(self, step: int) -> None:
        """The run goes on after `step`: lines of later steps, which come again, are dropped."""
        later = [key for key in self._lines if key[0] > step]
        if later:
            log.info("%s: %d lines of steps after %d are dropped", self._path, len(later), step)
            for key in later:
                del self._lines[key]
            self._rewrite()

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Appends a line; one of the same step with the same names is replaced."""
        values = {name: _plain(value) for name, value in scalars.items()}
        record = {"step": int(step), "time": round(time.time(), 3), **values}
        line, key = json.dumps(record, allow_nan=False), (int(step), frozenset(record))
        again = self._lines.pop(key, None) is not None
        self._lines[key] = line
        if again:  # such as the evaluation after the last step, of a run that is started again
            self._rewrite()
        else:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def flush(self) -> None:
        """Nothing waits: every line is in the file."""

    def close(self) -> None:
        """Nothing is open between two lines."""

    def _rewrite(self) -> None:
        temporary = self._path.with_name(self._path.name + ".tmp")
        temporary.write_text(_text(self._lines), encoding="utf-8")
        temporary.replace(self._path)


def _key(line: str) -> _Key | None:
    """Of a whole line; None for what is none."""
    try:
        record = json.loads(line)
        return int(record["step"]), frozenset(record)
    except (ValueError, KeyError, TypeError):
        return None


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _text(lines: Mapping[_Key, str]) -> str:
    return "".join(f"{line}\n" for line in lines.values())
