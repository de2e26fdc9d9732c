"""A file as a sequence of bytes, read piece by piece.

Not a memory map: where a mapped file shrinks or its disk fails, the process dies by SIGBUS; a read
fails with an error.
"""

from __future__ import annotations

import io
import os
import weakref

from fluxjax.weight_files.errors import WeightsError


class FileBytes:
    """`len(data)` and `data[start:end]` of an open file; each slice is memory of its own.

    The file stays open as long as this object lives, so that tensors can be read when wanted.
    """

    def __init__(self, path: str | os.PathLike):
        self.file = io.FileIO(path)
        weakref.finalize(self, self.file.close)
        self._size = self.file.seek(0, io.SEEK_END)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> memoryview:
        start, end, _ = where.indices(self._size)
        piece = memoryview(bytearray(max(end - start, 0)))  # never more than the file has
        self.file.seek(start)
        done = 0
        while done < len(piece):  # one read returns at most 2 GiB
            count = self.file.readinto(piece[done:])
            if not count:
                raise WeightsError("the file became shorter while it was read")
            done += count
        return piece
