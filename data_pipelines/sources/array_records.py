"""Catalogs of videos in memory: NumPy arrays, and blank videos that cost nothing."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.reading.arrays import ArrayVideo, BlankVideo
from data_pipelines.sources.labels import count_classes
from data_pipelines.sources.records import Catalog, Record


class ArrayCatalog(Catalog):
    """Records of videos in memory."""

    def __init__(
        self,
        videos: Sequence[np.ndarray | ArrayVideo],
        labels: Sequence[int],
        num_classes: int | None = None,
        label_names: tuple[str, ...] | None = None,
    ):
        """Wraps videos [N, H, W, 3] uint8 (or `ArrayVideo`s) and the class number of each.

        Raises:
          ValueError: if there are not as many labels as videos, or one is no class.
        """
        if len(videos) != len(labels):
            raise ValueError(f"{len(videos)} videos have {len(labels)} labels; give one each")
        self._videos, self._labels = videos, labels
        if num_classes is None:
            num_classes = count_classes(np.asarray(labels, np.int64), "these arrays")
        self.num_classes = num_classes
        self.label_names = label_names
        if not all(0 <= label < self.num_classes for label in labels):
            raise ValueError(f"labels must lie in 0..{self.num_classes - 1}, got {sorted(labels)}")

    def __len__(self) -> int:
        """How many videos there are."""
        return len(self._videos)

    def __getitem__(self, index: int) -> Record:
        """Video `index`."""
        index = range(len(self))[index]
        video, name = self._videos[index], f"array[{index}]"
        video = video if isinstance(video, ArrayVideo) else ArrayVideo(video, name=name)
        return Record(video, int(self._labels[index]), name)


def open_dummy(spec: str, num_classes: int | None) -> ArrayCatalog:
    """Blank videos with labels in turn; ``COUNT`` of them, 1024 by default.

    For measuring the training without the decoding.

    Raises:
      ValueError: if the count is no positive number, or the number of classes is not known.
    """
    if not (spec or "1024").isdecimal() or spec == "0":
        raise ValueError(f"'dummy:{spec}' must be dummy or dummy:COUNT, e.g. dummy:1024")
    if num_classes is None:
        raise ValueError("the dummy source does not say how many classes it has; set num_classes")
    count = int(spec or 1024)
    return ArrayCatalog(
        [BlankVideo()] * count, [i % num_classes for i in range(count)], num_classes
    )
