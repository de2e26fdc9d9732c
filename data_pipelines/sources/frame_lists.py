"""Lists of frame folders: `path num_frames label` a line, as TSN, TSM and FFN have them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from data_pipelines.reading.folders import FrameFolder
from data_pipelines.sources.labels import known_classes, parse_label
from data_pipelines.sources.list_files import BLANK, fields_of
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.records import Catalog
from data_pipelines.sources.remote import is_remote
from data_pipelines.sources.text_files import lines_of, read_text

_LINE_HELP = "each line is `path num_frames label`, the path that of a folder of images"


class FrameList(PathCatalog):
    """A text file with one folder of frame images a line: ``path num_frames label``.

    Images are numbered from 1, or from 0 where image 0 exists. Fields are split from the right, so
    paths may hold the separator; blank lines and lines that begin with # are skipped. Class names
    are as in a `ListFile`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        template: str,
        *,
        root: str = "",
        separator: str | None = None,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
        training: Catalog | None = None,
    ):
        """Reads and checks the whole list, and no folder.

        Args:
          path: of the list.
          template: of the images' names, such as `{:05d}.jpg` or `image_{:05d}.jpg`.
          root, separator, num_classes, label_names, training: see `open_catalog`.

        Raises:
          OSError: no such list, or it cannot be read.
          ValueError: no video in it, a template without a number, bad lines (the first ten are
            shown), or folders on another file system.
        """
        path = os.fspath(path)
        FrameFolder("", template)  # refuses a template without a number
        classes = known_classes(path, num_classes, label_names, training)
        self._template, self._counts = template, []
        entries, problems = [], []
        for number, line in enumerate(lines_of(read_text(path)), start=1):
            line = line.strip(BLANK)
            if not line or line.startswith("#"):
                continue
            try:
                folder, count, label = _parse_line(line, separator)
            except ValueError as error:
                problems.append((f"line {number}", str(error)))
                continue
            entries.append(Entry(f"line {number}", folder, label))
            self._counts.append(count)
        super().__init__(path, entries, classes, root, problems, _LINE_HELP)
        remote = next((p for p in map(self.video_path, range(len(self))) if is_remote(p)), None)
        if remote is not None:
            raise ValueError(f"{path}: frame folders must be local, not {remote}")

    def source(self, index: int) -> FrameFolder:
        """The folder of example `index`; reads nothing."""
        return FrameFolder(self.video_path(index), self._template, num_frames=self._counts[index])


def _parse_line(line: str, separator: str | None) -> tuple[str, int, int | str]:
    fields = fields_of(line, separator, 2)
    if len(fields) != 3 or not fields[0]:
        raise ValueError(f"{line!r} has not three fields")
    folder, count, label = fields
    if not count.isdecimal() or int(count) < 1:
        raise ValueError(f"num_frames {count!r} of {folder!r} is no number of at least 1")
    try:
        return folder, int(count), parse_label(label)
    except ValueError as error:
        raise ValueError(f"label {label!r} of {folder!r} {error}") from error
