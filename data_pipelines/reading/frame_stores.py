"""Where a cache keeps frames: in memory, or in a folder with a file for each video.

A file of the folder is an array as NumPy writes it (uint8 [frames, bytes of a picture]), a JSON
object, the object's length and a checksum of all. It is written under another name and then
renamed, so that a process that dies leaves no half of one.
"""

import contextlib
import io
import json
import logging
import os
import pathlib
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_pipelines.reading.kept_frames import KeptFrames, PictureKind

_KEY = "[0-9a-f]" * 32  # see `frame_cache.identity`
_UNFINISHED = "frames-"
ABANDONED_SECONDS = 3600.0  # an unfinished file of this age is nobody's

log = logging.getLogger(__name__)

Stamp = list[Any]
"""JSON values that change when a video does."""


class MemoryStore:
    """Frames in this process's memory."""

    def __init__(self):
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[Stamp, KeptFrames, int]] = {}
        self.found = (0, 0)  # videos and bytes that were there before

    def get(self, key: str, stamp: Stamp) -> KeptFrames | None:
        """The frames that were put there under this key and stamp."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] == stamp else None

    def put(self, key: str, stamp: Stamp, kept: KeptFrames, size: int) -> tuple[int, int | None]:
        """Keeps frames of about `size` bytes.

        Returns:
          Bytes that they take, and bytes of what they replace; None if they replace nothing.
        """
        with self._lock:
            before = self._kept.get(key)
            self._kept[key] = (stamp, kept, size)
        return size, None if before is None else before[2]


class FolderStore:
    """Frames in a folder, for this run and later ones; several processes may share it."""

    def __init__(self, folder: pathlib.Path):
        """Makes the folder if it is not there.

        Raises:
          OSError: if it cannot be made, or nothing can be written there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        self._folder, self._lock = folder, threading.Lock()
        self._checked: set[tuple[str, int, int]] = set()
        # Other files of the folder are not ours; and another run may rename or delete any of these.
        for path, status in _there(folder, f"{_UNFINISHED}*.tmp"):
            if time.time() - status.st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        sizes = [status.st_size for _, status in _there(folder, f"{_KEY}.npy")]
        self.found = len(sizes), sum(sizes)

    def get(self, key: str, stamp: Stamp) -> KeptFrames | None:
        """The frames that were put there under this key and stamp; None also of a damaged file."""
        path = self._path(key)
        try:
            status = path.stat()
            version = (key, status.st_size, status.st_mtime_ns)
            if version not in self._checked:
                _check(path)
            kept = _read(path, stamp)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be used (%s); its video is decoded again", path, error)
            return None
        self._checked.add(version)
        return kept

    def put(self, key: str, stamp: Stamp, kept: KeptFrames, size: int) -> tuple[int, int | None]:
        """Keeps frames, as `MemoryStore.put`.

        Raises:
          OSError: if they cannot be written.
        """
        path = self._path(key)
        unfinished = self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}.tmp"
        try:
            with unfinished.open("xb") as file:
                _write(file, stamp, kept)
                size = file.tell()
            with self._lock:
                before = path.stat().st_size if path.exists() else None
                os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        return size, before

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / f"{key}.npy"


def _there(folder: pathlib.Path, pattern: str) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
    """Files of that pattern that are still there when they are looked at."""
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat()


def _write(file, stamp: Stamp, kept: KeptFrames) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, np.lib.format.header_data_from_array_1_0(kept.pixels)
    )
    # NumPy parses its own header with `ast`, which fails in several threads at once (Python 3.11).
    array = {"start": head.tell(), "shape": kept.pixels.shape}
    facts = {"stamp": stamp, "kind": kept.kind, "about": kept.about, "array": array}
    text = json.dumps(facts).encode()
    checksum = 0
    for part in (head.getvalue(), kept.pixels.data, text, len(text).to_bytes(4, "little")):
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    file.write(checksum.to_bytes(4, "little"))


def _check(path: pathlib.Path) -> None:
    """Raises ValueError unless the file is as it was written."""
    content = path.read_bytes()
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise ValueError("its checksum is wrong")


def _read(path: pathlib.Path, stamp: Stamp) -> KeptFrames | None:
    """What `_write` has written, mapped; None under another stamp."""
    with path.open("rb") as file:
        end = file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(end - length)
        facts = json.loads(file.read(length))
        if facts["stamp"] != stamp:
            return None
        start, shape = facts["array"]["start"], tuple(facts["array"]["shape"])
        pixels = np.asarray(np.memmap(file, np.uint8, "r", start, shape))
    return KeptFrames(pixels, PictureKind(*facts["kind"]), facts["about"])
