"""An index of videos: their embeddings and where they lie, in a folder that can be searched.

DIRECTORY/manifest.json   the checkpoint and how it was run, the videos, what could not be read
DIRECTORY/videos.npy      [N, E] float32 unit vectors, a row for each of the manifest's videos
DIRECTORY/texts.npy       [M, E] likewise, of the manifest's texts
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.records import Record
from data_pipelines.sources.remote import is_remote
from fluxjax.checkpoints.manifest import CHECKSUM
from fluxjax.serving.checkpoint import Checkpoint
from fluxjax.serving.video_files import file_record

MANIFEST, VIDEOS, TEXTS = "manifest.json", "videos.npy", "texts.npy"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """What was embedded.

    Attributes:
      manifest: JSON values. checkpoint (its folder), checkpoint_sha256, model (its class), step,
        task, grid, budget, sampling, clips, crops: how it was run. data: of a data set, what
        `open_catalog` takes, else None. videos: a row's video (name or path), and of a data set its
        number, start, end and captions. texts. failed: likewise, and error, of those without a row.
      videos: [N, E] float32.
      texts: [M, E] float32.
    """

    manifest: Mapping[str, Any]
    videos: np.ndarray
    texts: np.ndarray

    def nearest(self, query: np.ndarray, count: int) -> list[tuple[int, float]]:
        """Rows of the videos that have most in common with a text [E], and their cosines."""
        scores = self.videos @ query
        best = np.argsort(-scores, kind="stable")[:count]
        return [(int(row), float(scores[row])) for row in best]


def vacant(folder: str | os.PathLike, overwrite: bool) -> None:
    """Refuses a folder that holds an index already, or anything that is none.

    Raises:
      FileExistsError: naming it and the remedy.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"--output={folder} is a file; name a folder")
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(held - {MANIFEST, VIDEOS, TEXTS}):
        raise FileExistsError(f"--output={folder} holds {others[0]}; name a folder of its own")
    if held and not overwrite:
        raise FileExistsError(
            f"--output={folder} holds embeddings; add --overwrite to replace them"
        )


def write_index(folder: str | os.PathLike, index: VideoIndex) -> None:
    """Writes the files of an index; the manifest last, without which there is none."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    np.save(folder / VIDEOS, index.videos)
    np.save(folder / TEXTS, index.texts)
    text = json.dumps({"format": _FORMAT, **index.manifest}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_index(folder: str | os.PathLike) -> VideoIndex:
    """Reads what `write_index` wrote.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged.
    """
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{folder} holds no index; make one: python -m fluxjax.embed --checkpoint RUN --output "
            f"{folder} VIDEOS"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        videos, texts = (np.load(folder / name, allow_pickle=False) for name in (VIDEOS, TEXTS))
        counts = len(manifest["videos"]), len(manifest["texts"])
        if manifest["format"] != _FORMAT or counts != (len(videos), len(texts)):
            raise ValueError("manifest and arrays do not belong together")
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise ValueError(f"the index {folder} is damaged ({error}); make it again") from error
    return VideoIndex(manifest, videos, texts)


def checksum(checkpoint: Checkpoint) -> str | None:
    """sha256 of the checkpoint's manifest, which names its weights."""
    file = checkpoint.folder / CHECKSUM
    return file.read_text(encoding="ascii").split()[0] if file.is_file() else None


def records_of(
    manifest: Mapping[str, Any], rows: Sequence[int] | None = None
) -> list[Record | VideoError]:
    """What to read of the videos of some rows, or why it cannot be.

    Raises:
      ValueError, OSError: if the data set is not there any more.
    """
    videos = manifest["videos"]
    chosen = [videos[row] for row in (range(len(videos)) if rows is None else rows)]
    if manifest["data"] is None:
        return [file_record(video["video"]) for video in chosen]
    catalog = open_catalog(**manifest["data"])
    return [catalog[video["number"]] for video in chosen]


def whole_path(path: str) -> str:
    """A path that is the same from any folder."""
    return path if is_remote(path) else os.path.abspath(path)
