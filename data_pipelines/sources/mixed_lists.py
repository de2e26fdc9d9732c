"""Lists of videos of several data sets, as FluxViT's pre-training keeps them: six fields a line.

Source: OpenGVLab/FluxViT, single_modality/datasets, mae_multi_ofa: ``source, path, total_time,
start, end, target``. The official code counts frames of the span by total_time; videos here know
their own times, so it is checked and not used. Targets of several data sets are no classes of one:
pre-training has no use for them, and records have no label.
"""

import dataclasses
import os
import urllib.parse
from collections.abc import Sequence

from data_pipelines.sources.labels import known_classes
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.records import Catalog, Record
from data_pipelines.sources.text_files import lines_of, read_text

_LINE_HELP = "each line is `source,path,total_time,start,end,target`, -1 for times of a whole file"


class MixedList(PathCatalog):
    """A list of six fields a line; records tell their data set in `origin`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        root: str = "",
        separator: str | None = None,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
        training: Catalog | None = None,
    ):
        """Reads and checks the whole list.

        Args:
          path: of the list; ``PATH?ssv2=2&k710=0.5`` draws each video of a source so many times as
            often as those of sources that are not named.
          root, num_classes, label_names, training: see `open_catalog`.
          separator: between the fields; a comma by default.

        Raises:
          OSError: no such list, or it cannot be read.
          ValueError: not a text file, no video in it, bad lines (the first ten are shown), or a
            weight that is no positive number or of a source that is not in the list.
        """
        path, _, query = os.fspath(path).partition("?")
        weights = _weights(query)
        self._origins, entries, problems = [], [], []
        for number, line in enumerate(lines_of(read_text(path)), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                origin, entry = _parse_line(line, separator or ",", f"line {number}")
            except ValueError as error:
                problems.append((f"line {number}", str(error)))
                continue
            self._origins.append(origin)
            entries.append(entry._replace(weight=weights.get(origin, 1.0)))
        if unknown := sorted(set(weights) - set(self._origins)):
            known = sorted(set(self._origins))
            raise ValueError(f"{path} has no videos of {', '.join(unknown)}; its sources: {known}")
        classes = known_classes(path, num_classes, label_names, training)
        super().__init__(path, entries, classes, root, problems, _LINE_HELP)

    def __getitem__(self, index: int) -> Record:
        """Example `index`, with its data set as `origin`."""
        return dataclasses.replace(super().__getitem__(index), origin=self._origins[index])


def _parse_line(line: str, separator: str, place: str) -> tuple[str, Entry]:
    """A line -> its source, and the entry; the ValueError says what is wrong."""
    origin, _, rest = line.partition(separator)
    fields = [origin, *rest.rsplit(separator, 4)]  # the path may hold the separator
    if len(fields) < 6:
        raise ValueError(f"{len(fields)} fields in {line!r}")
    origin, path, total, start, end, _ = (field.strip() for field in fields)
    try:
        total, start, end = (float(x) for x in (total, start, end))
    except ValueError:
        raise ValueError(
            f"times {total!r}, {start!r}, {end!r} of {path!r} are no numbers"
        ) from None
    if not path or not origin:
        raise ValueError(f"no path or no source in {line!r}")
    if start < 0 and end < 0:
        return origin, Entry(place, path)
    if not 0 <= start < end or (0 <= total < end):
        raise ValueError(
            f"span {start:g} to {end:g} s of {path!r}, which lasts {total:g} s; it must be "
            "0 <= start < end <= total_time, or -1, -1, -1"
        )
    return origin, Entry(place, path, start=start, end=end)


def _weights(query: str) -> dict[str, float]:
    weights = {}
    for source, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
        try:
            weights[source] = float(text)
        except ValueError:
            weights[source] = 0.0
        if not 0 < weights[source] < float("inf"):
            raise ValueError(f"weight {text!r} of source {source!r} must be a positive number")
    return weights
