"""A folder with a folder of videos for each class, as `folder/class/*.mp4`."""

from __future__ import annotations

import logging
import os
from collections import Counter

from data_pipelines.sources.labels import known_classes
from data_pipelines.sources.list_files import is_video_name
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.records import Catalog
from data_pipelines.sources.remote import walk

_HELP = "a class folder holds videos: folder/CLASS/NAME.mp4"
_SPLITS = ("train", "training", "val", "valid", "validation", "test")

log = logging.getLogger(__name__)


class ClassFolder(PathCatalog):
    """The videos in the sub-folders of a folder, however deep; their names are the classes.

    A `classes.txt` in the folder gives the order of the classes; without, they are sorted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_classes: int | None = None,
        label_names: tuple[str, ...] | None = None,
        training: Catalog | None = None,
    ):
        """Finds the videos.

        Raises:
          OSError: if another file system does not answer.
          ValueError: if there is none, or a class that training does not know.
        """
        path = os.fspath(path).rstrip("/") or "/"
        folder = os.path.expanduser(path)
        videos: list[tuple[str, str]] = []  # relative path, class
        other, empty = Counter(), []
        for root, folders, files in walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = root[len(folder) :].strip("/")
            found = [name for name in sorted(files) if not name.startswith(".")]
            good = [name for name in found if is_video_name(name)]
            other.update(os.path.splitext(name)[1] for name in found if not is_video_name(name))
            if below:
                videos += [(f"{below}/{name}", below.split("/")[0]) for name in good]
            else:
                top = folders[:]
                if good:
                    raise ValueError(f"{path} holds {good[0]} itself; {_HELP}")
        classes = {name for _, name in videos}
        empty = [name for name in top if name not in classes]
        _check_splits(path, videos, top)
        known = known_classes(f"{folder}/", num_classes, label_names, training)
        entries = [
            Entry(f"video {i}", name, label) for i, (name, label) in enumerate(sorted(videos), 1)
        ]
        super().__init__(path, entries, known, folder, hint=_HELP)
        if empty:
            log.warning("%s: no video in %d class folders: %s", path, len(empty), empty[:10])
        if other:
            log.info("%s: files that are no videos are left out: %s", path, dict(other))


def _check_splits(path: str, videos: list[tuple[str, str]], top: list[str]) -> None:
    """Refuses the folder above train/ and test/: its classes would be called train and test."""
    deep = {name for file, name in videos if file.count("/") > 1}
    splits = [name for name in top if name.lower() in _SPLITS and name in deep]
    if splits:
        raise ValueError(
            f"{path} seems to hold splits ({', '.join(splits)}), not classes; give {path}/"
            f"{splits[0]}, or {path}/{{split}} for each split its own"
        )
