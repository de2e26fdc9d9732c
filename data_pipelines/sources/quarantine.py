"""Unreadable videos: counted, written to WORKDIR/quarantine.jsonl, and too many stop the run.

What readable ones lack, such as a chunk of a long video, is written there too, and stops nothing.
"""

import collections
import datetime
import json
import logging
import os
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

from data_pipelines.reading.errors import ListedAsBadError, VideoError, VideoTimeoutError

MIN_READ = 40  # videos before the share of bad ones means anything; all where there are fewer

log = logging.getLogger(__name__)


class BadVideos:
    """Counts unreadable videos, remembers them, and stops the run when they are many. Thread-safe.

    Attributes:
      tried: videos read so far, each reading counted.
      reasons: video -> why it cannot be read, in the order they were met; not those listed as bad.
      refused: video -> why it was listed as bad, of those met.
      damaged: readings so far that lacked frames, which others replaced.
    """

    def __init__(
        self,
        max_share: float,
        path: str | os.PathLike | None = None,
        listed: Mapping[str, str] | None = None,
        videos: int | None = None,
    ):
        """Reads what earlier runs of the workdir have written.

        Args:
          max_share: of unreadable videos among those read, above which `note` raises.
          path: of quarantine.jsonl: a line for every unreadable video. None: no file.
          listed: video -> reason, of videos that are known to be bad: `check` refuses them, and
            they do not count.
          videos: how many there are to be read, listed ones included; None if nobody knows.
        """
        self.tried = self.damaged = 0
        self.reasons: collections.OrderedDict[str, str] = collections.OrderedDict()
        self.refused: dict[str, str] = {}
        self._bad, self._max_share, self._videos = 0, max_share, videos
        self._listed = dict(listed or {})
        self._lock = threading.Lock()
        self._path = None if path is None else pathlib.Path(path)
        # Whether a video is too slow can change; the order of a resumed run must not.
        self._slow: dict[str, str] = {}
        # (video, reason), or (file, None) of damage: in the log, and in the file.
        self._told: set[tuple[str, str | None]] = set()
        self._written: set[tuple[str, str | None]] = set()
        if self._path is not None and self._path.exists():
            self._read()

    @property
    def count(self) -> int:
        """Videos that could not be read so far, each reading counted."""
        return self._bad

    @property
    def unreadable(self) -> dict[str, str]:
        """Video -> reason, of the videos met that could not be read or were listed as bad."""
        with self._lock:
            return {**self.refused, **self.reasons}

    def fresh(self, videos: int | None) -> "BadVideos":
        """A counter that starts at zero, of the same file, limit and known bad videos.

        Args:
          videos: how many this one will see, such as those of a table.
        """
        other = BadVideos(self._max_share, None, self._listed, videos)
        other._path, other._written, other._slow = self._path, self._written, self._slow
        return other

    def check(self, name: str) -> None:
        """Refuses a video without a try: one listed as bad, or once given up as too slow.

        Raises:
          ListedAsBadError, VideoTimeoutError: as it is refused.
        """
        if name in self._listed:
            raise ListedAsBadError(name, self._listed[name])
        if name in self._slow:
            raise VideoTimeoutError(name, self._slow[name])

    def note(self, error: VideoError | None) -> None:
        """Counts one video, good (None) or bad.

        Raises:
          VideoError: when more than `max_share` of the videos are bad, at the earliest when
            `MIN_READ`, or as many as there are, have been read; or when all of them are.
        """
        with self._lock:
            if isinstance(error, ListedAsBadError):
                self.refused[error.name] = error.reason
                self._judge(None)
                return
            self.tried += 1
            if error is not None:
                self._bad += 1
                self.reasons.setdefault(error.name, error.reason)
                self._tell(error, damaged=False)
            self._judge(error)

    def note_damage(self, damage: Mapping[str, str]) -> None:
        """Counts a reading for which frames had to stand in for others; {} counts nothing.

        Args:
          damage: file -> what is wrong with it, see `reading.video.Video.damage`.
        """
        with self._lock:
            self.damaged += bool(damage)
            for name, reason in damage.items():
                self._tell(VideoError(name, reason), damaged=True)

    def _tell(self, error: VideoError, damaged: bool) -> None:
        """Logs and writes what is not known yet."""
        key = (error.name, None if damaged else error.reason)
        if key not in self._told:
            self._told.add(key)
            if damaged:
                log.warning("damaged video: %s; %d readings so far", error, self.damaged)
            else:
                log.warning("unreadable video: %s", error)
        if key not in self._written:
            self._written.add(key)
            self._write(error, damaged)

    def _judge(self, error: VideoError | None) -> None:
        """Raises if too many are bad: videos where their number is known, readings otherwise."""
        bad, read, enough, all_bad = self._bad, self.tried, MIN_READ, False
        if self._videos is not None:
            there = max(self._videos - len(self.refused), 1)
            bad, read, enough = len(self.reasons), min(read, there), min(enough, there)
            all_bad = bad >= there
        if not bad or self.tried < enough or (error is None and self.tried > enough):
            return
        share = bad / read
        if share > self._max_share or all_bad:
            name, reason = list(self.reasons.items())[-1]
            limit = f"more than data.max_bad_share={self._max_share:.0%}"
            raise VideoError(
                name,
                f"{bad} of {read} videos could not be read ({share:.0%}, "
                f"{'all of them' if all_bad else limit}); the last one: {reason}",
            )

    def _write(self, error: VideoError, damaged: bool) -> None:
        timed_out = isinstance(error, VideoTimeoutError)
        if timed_out:
            self._slow[error.name] = error.reason
        if self._path is None:
            return
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        record = {"video": error.name, "reason": error.reason, "timed_out": timed_out, "time": now}
        record |= {"damaged": True} if damaged else {}
        # One write: lines of several processes do not mix.
        with open(self._path, "ab", buffering=0) as file:
            file.write(json.dumps(record).encode() + b"\n")

    def _read(self) -> None:
        """Reads the lines; one that a killed run left unfinished is dropped."""
        data = self._path.read_bytes()
        for number, line in enumerate(data.splitlines(), 1):
            record = _parse(line)
            if record is None:
                log.warning("%s: line %d is unfinished or not ours", self._path, number)
                continue
            damaged = record.get("damaged", False)
            self._written.add((record["video"], None if damaged else record["reason"]))
            if record["timed_out"]:
                self._slow[record["video"]] = record["reason"]
        if data and not data.endswith(b"\n"):
            with open(self._path, "ab") as file:
                file.write(b"\n")
        if self._slow:
            log.warning(
                "%d videos that were too slow before are replaced without another try; delete %s "
                "to try them again", len(self._slow), self._path,
            )  # fmt: skip


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = {"video": str, "reason": str, "timed_out": bool}
    if not isinstance(record, dict) or any(
        not isinstance(record.get(key), kind) for key, kind in kinds.items()
    ):
        return None
    return record
