"""A cache of decoded frames: a video is decoded whole when it is first read, and then no more."""

import functools
import hashlib
import json
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import av

from data_pipelines.reading.base import BaseVideo, CodedVideo
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.frame_stores import FolderStore, MemoryStore, Stamp
from data_pipelines.reading.kept_frames import KeptFrames, Layout, keepable
from data_pipelines.reading.kept_video import KeptVideo, decode_all
from data_pipelines.reading.time_limit import GRACE_SECONDS, Deadline

FILL_SECONDS = GRACE_SECONDS / 2
"""A video that takes longer to decode whole is not kept. Nobody gives its reading up for that."""

GIB = 2**30

log = logging.getLogger(__name__)


class FrameCache:
    """Gives videos whose frames are kept, and keeps those of others while there is room.

    Frames are kept as decoders give them (4:2:0 mostly, 1.5 bytes a pixel of the whole picture), so
    that any crop at any size has the same pixels as without the cache. Not kept are videos with
    damage of any kind, whose reading is then what it is without a cache, those with more than 8
    bits a component, and those of which the whole takes more than `FILL_SECONDS`. Thread-safe; two
    threads that meet in a new video both decode it.
    """

    def __init__(self, store: MemoryStore | FolderStore, limit: int, sharers: int = 1):
        """Keeps up to `limit` bytes in `store`, to which so many processes add."""
        self._store, self._lock = store, threading.Lock()
        self._videos, self._used = store.found
        self._limit = self._used + max(limit - self._used, 0) // sharers
        self._left_out: set[tuple[str, str]] = set()  # they cannot be kept
        self._full = False
        self._readings = self._hits = 0  # since the last report

    def opener(
        self, open_now: Callable[[Any, str], CodedVideo], options: str, deadline: Deadline
    ) -> Callable[[Any, str], BaseVideo]:
        """`open_now`, (source, name) -> video, that looks here first.

        Args:
          open_now: opens the video itself; called once, or once more for a damaged one.
          options: all that it depends on beside the source.
          deadline: of the reading; what is spent on keeping the video is added to it.
        """
        return functools.partial(self._open, open_now, options, deadline)

    def report(self) -> None:
        """Logs what is kept, and which share of the readings since the last report found it."""
        with self._lock:
            if not self._readings:
                return
            share = self._hits / self._readings
            text = (
                f"frame cache: {self._videos} videos in {self._used / GIB:.2f} GiB; {share:.1%} of "
                f"{self._readings} readings decoded nothing"
            )
            self._readings = self._hits = 0
        log.info("%s", text)

    def _open(self, open_now, options: str, deadline: Deadline, source, name: str) -> BaseVideo:
        try:
            key, stamp = identity(source, options)
        except (OSError, VideoError):
            return open_now(source, name)  # it says what is wrong
        kept = self._store.get(key, stamp)
        with self._lock:
            self._readings += 1
            self._hits += kept is not None
        if kept is not None:
            return KeptVideo(kept, name)
        video, mark = open_now(source, name), (key, json.dumps(stamp))
        if mark in self._left_out or not keepable(video.pixel_format):
            return video
        layout = Layout(video.pixel_format, *video.geometry.coded_size)
        size = video.num_frames * (layout.size + 32) + 4096  # and what is said of the video
        if not self._reserve(size):
            return video
        start = time.monotonic()
        kept = _decoded(video, layout)
        if kept is not None:
            self._put(key, stamp, kept, size)
        else:
            self._release(size)
            self._left_out.add(mark)
        deadline.extend(time.monotonic() - start)
        video.close()
        # A damaged one is opened anew: what its reading meets, and tells, is its own.
        return open_now(source, name) if kept is None else KeptVideo(kept, name)

    def _put(self, key: str, stamp: Stamp, kept: KeptFrames, size: int) -> None:
        try:
            taken, replaced = self._store.put(key, stamp, kept, size)
        except OSError as error:
            self._release(size)
            with self._lock:
                self._limit, told, self._full = 0, self._full, True
            if not told:
                log.warning("frames are no longer kept: %s", error)
            return
        with self._lock:
            self._videos += replaced is None
            self._used += taken - size - (replaced or 0)

    def _reserve(self, size: int) -> bool:
        """Whether there is room; says so once where there is none."""
        with self._lock:
            fits = self._used + size <= self._limit
            self._used += size if fits else 0
            told, self._full = self._full, self._full or not fits
            videos, used = self._videos, self._used
        if not fits and not told:
            log.info(
                "the frame cache is full (config.data.cache_gib): %d videos fit, in %.2f GiB; "
                "others are decoded at every reading", videos, used / GIB,
            )  # fmt: skip
        return fits

    def _release(self, size: int) -> None:
        with self._lock:
            self._used -= size


def open_cache(where: str, gib: float, sharers: int = 1) -> FrameCache | None:
    """The cache that a config asks for; None for "".

    Args:
      where: `memory` (of each process), or a folder (for all of them).
      gib: bound, in GiB.
      sharers: processes that share a folder.

    Raises:
      ValueError: if the folder cannot be used.
    """
    if not where:
        return None
    limit = int(gib * GIB)
    if where == "memory":
        return FrameCache(MemoryStore(), limit)
    try:
        return FrameCache(FolderStore(pathlib.Path(where)), limit, sharers)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"config.data.cache={where!r} cannot be written to ({reason}): name another folder, or "
            "memory"
        ) from error


def identity(source: str | os.PathLike | bytes | FrameFolder, options: str) -> tuple[str, Stamp]:
    """(key, stamp): which video it is, and which version of it.

    A file's version is its size and time of change, a folder's those of all its images; of bytes
    the key is a hash of them. Another PyAV may decode some codecs to other pixels.

    Raises:
      OSError, VideoError: if a file is not there, or a folder is no video.
    """
    stamp: Stamp = [av.__version__]
    if isinstance(source, bytes):
        named = hashlib.sha256(source).hexdigest()
    elif isinstance(source, FrameFolder):
        path = os.path.abspath(source.path)
        named = [path, source.template, source.fps, source.num_frames]
        images = [[name, *_version(os.path.join(path, name))] for name in source.images()]
        stamp.append(hashlib.sha256(json.dumps(images).encode()).hexdigest())
    else:
        named = os.path.abspath(source)
        stamp += _version(source)
    key = hashlib.sha256(json.dumps([named, options]).encode()).hexdigest()
    return key[:32], stamp


def _version(path: str | os.PathLike) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def _decoded(video: CodedVideo, layout: Layout) -> KeptFrames | None:
    try:
        return decode_all(video, layout, FILL_SECONDS)
    except VideoError:  # its own reading tells, if it meets what is wrong
        return None
