"""Runs an `Embedder` over videos one after the other, and says what was run."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from data_pipelines.progress import progress
from data_pipelines.reading.errors import VideoError
from fluxjax.serving.embedder import Embedder
from fluxjax.serving.video_files import file_record
from fluxjax.serving.video_index import checksum, whole_path

log = logging.getLogger(__name__)

Entries = list[dict[str, Any]]  # what a manifest says of videos


def embed_every(
    embedder: Embedder,
    videos: Sequence[Any],
    take: Callable[[Any, dict[str, Any]], None],
    *,
    of_data: bool,
    batch_size: int,
    workers: int,
) -> tuple[Entries, Entries]:
    """Entries of the videos that were read, and of those that could not be.

    Args:
      embedder: what is run.
      videos: paths, or a catalog.
      take: is given what `embedder.videos` gives of a video, and its entry, in order.
      of_data: whether it is a catalog.
      batch_size: videos run at once.
      workers: decoding threads.
    """
    entries, failed = [], []
    records: list[Any] = [None] * len(videos)  # the manifest's words of what has been met

    def read():
        for number in range(len(videos)):
            try:
                record = videos[number] if of_data else file_record(videos[number])
            except OSError as error:  # a remote file that is not there
                record = VideoError(f"video {number}", str(error))
            records[number] = {"video": record.name}
            if of_data and not isinstance(record, VideoError):
                records[number] |= {"number": number, "start": record.start, "end": record.end}
                records[number]["captions"] = list(record.captions)
            yield record

    found = embedder.videos(read(), batch_size, workers)
    with progress(len(videos), "videos", log) as note:
        for number, row in enumerate(found):
            entry, records[number] = records[number], None
            if isinstance(row, VideoError):
                print(f"error: {entry['video']}: {row.reason}", file=sys.stderr)
                failed.append({**entry, "error": row.reason})
            else:
                take(row, entry)
                entries.append(entry)
            note(number + 1, "embedding")
    return entries, failed


def what_was_run(embedder: Embedder) -> dict[str, Any]:
    """The manifest's words of a checkpoint and how it is run."""
    checkpoint = embedder.checkpoint
    return {
        "checkpoint": os.path.abspath(checkpoint.folder),
        "checkpoint_sha256": checksum(checkpoint),
        "model": type(checkpoint.model).__name__,
        "step": checkpoint.step,
        "task": embedder.task.config.task,
        "grid": str(embedder.grid),
        "budget": embedder.plan.budget,
        "sampling": embedder.sampling,
        "clips": embedder.clips,
        "crops": embedder.crops,
    }


def lasting(path: str | None) -> str | None:
    """The path of a file, from any folder; what names no file, such as demo:captions, as it is."""
    return whole_path(path) if path and os.path.exists(path) else path
