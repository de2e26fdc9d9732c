"""Manifests of videos, one JSON object a line: what `data_pipelines.doctor` found in each file."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

from data_pipelines.sources.path_catalog import PathCatalog

_MAX_REPORTED = 5


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of one video.

    Attributes:
      video: its path, as the catalog names it.
      error: why training cannot read it; None if it can. The other fields are None where the file
        does not tell.
      bytes, sha256: of the file.
      frames: decoded.
      fps: mean frames per second.
      duration: seconds.
      width, height: of the upright picture, in pixels.
      codec: FFmpeg's name.
      gop: most packets from one place where decoding may start to the next.
      warning: what training replaces by neighbours; None where every frame is whole.
    """

    video: str
    error: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    frames: int | None = None
    fps: float | None = None
    duration: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    gop: int | None = None
    warning: str | None = None


_KINDS = {
    "str": (str,), "int": (int,), "float": (int, float),
}  # fmt: skip


def write(entries: Iterable[Entry], path: str | os.PathLike) -> None:
    """Writes a manifest, whole or not at all."""
    path = pathlib.Path(path)
    lines = (json.dumps(dataclasses.asdict(entry)) + "\n" for entry in entries)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(path)


def read(path: str | os.PathLike) -> dict[str, Entry]:
    """Video -> entry.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is no such manifest, naming the line.
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no manifest of videos: {error}") from error
    entries = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            try:
                entry = _entry(line)
            except (ValueError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"line {number} of {path} is not of a manifest of videos ({error}); write it "
                    "again with `python -m data_pipelines.doctor`"
                ) from error
            entries[entry.video] = entry
    return entries


def _entry(line: str) -> Entry:
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"{type(record).__name__} in the place of an object")
    entry = Entry(**record)
    for field in dataclasses.fields(Entry):
        value, kind = getattr(entry, field.name), field.type.split(" | ")[0]
        wrong = not isinstance(value, _KINDS[kind]) or isinstance(value, bool)
        if wrong and (value is not None or field.name == "video"):
            raise ValueError(f"{field.name}={value!r} must be of type {kind}")
    return entry


def bad_videos(paths: Sequence[str], catalogs: Sequence[PathCatalog]) -> dict[str, str]:
    """Video -> error, of the videos that the manifests call bad.

    Args:
      paths: of the manifests.
      catalogs: each of their videos must be in one of the manifests.

    Raises:
      OSError, ValueError: if a manifest cannot be read, or videos are in none of them.
    """
    entries: dict[str, Entry] = {}
    for path in paths:
        entries |= read(path)
    for catalog in catalogs:
        if not isinstance(catalog, PathCatalog):
            raise ValueError(
                "data.manifests are of lists and folders of videos; data sets of TFDS are checked "
                "when prepared"
            )
        names = (catalog.video_path(index) for index in range(len(catalog)))
        missing = [name for name in names if name not in entries]
        if missing:
            shown = ", ".join(missing[:_MAX_REPORTED])
            raise ValueError(
                f"{len(missing)} of {len(catalog)} videos of {catalog.path} are in none of the "
                f"manifests {list(paths)}: {shown}, ..; run `python -m data_pipelines.doctor` on "
                "the list as it is now"
            )
    return {name: entry.error for name, entry in entries.items() if entry.error is not None}
