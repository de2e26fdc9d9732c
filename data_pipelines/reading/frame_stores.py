"""Where a cache keeps frames: in memory, or in a folder with a file for each video.

A file of the folder is an array as NumPy writes it (uint8 [frames, bytes of a picture]), a JSON
object and a checksum of both. It is written under another name and then renamed, so that a process
that dies leaves no half of one.
"""

import io
import json
import logging
import os
import pathlib
import tempfile
import threading
import time
import zlib
from typing import Any

import numpy as np

from data_pipelines.reading.kept_frames import KeptFrames, PictureKind

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
        for path in folder.glob("*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        sizes = [path.stat().st_size for path in folder.glob("*.npy")]
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
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".tmp", delete=False) as file:
            try:
                _write(file, stamp, kept)
                size = file.tell()
                file.close()
                with self._lock:
                    before = path.stat().st_size if path.exists() else None
                    os.replace(file.name, path)
            except BaseException:
                pathlib.Path(file.name).unlink(missing_ok=True)
                raise
        return size, before

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / f"{key}.npy"


def _write(file, stamp: Stamp, kept: KeptFrames) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, np.lib.format.header_data_from_array_1_0(kept.pixels)
    )
    facts = {"stamp": stamp, "kind": kept.kind, "siting": kept.siting, "about": kept.about}
    checksum = 0
    for part in (head.getvalue(), kept.pixels.data, json.dumps(facts).encode()):
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
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        file.seek(start + int(np.prod(shape)))
        facts = json.loads(file.read()[:-4])
        if facts["stamp"] != stamp:
            return None
        pixels = np.asarray(np.memmap(file, dtype, "r", start, shape))
    return KeptFrames(pixels, PictureKind(*facts["kind"]), facts["siting"], facts["about"])
