"""Reads every video of a list once as training does, writes what it finds, says which are bad.

Bad is what training cannot read. Where it can, but frames are missing or damaged and replaced by
their neighbours, that is a warning.

python -m data_pipelines.doctor LIST [--root FOLDER] [--output MANIFEST] [--workers N]

Exit status 1 if any video is bad. `--config.data.manifests="('MANIFEST',)"` makes training replace
those without a try.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import logging
import os
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_pipelines.progress import progress
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import FrameFolder
from data_pipelines.reading.time_limit import limited
from data_pipelines.reading.video import Video, open_video
from data_pipelines.sources import video_manifest
from data_pipelines.sources.catalog import open_path
from data_pipelines.sources.remote import source_of
from data_pipelines.sources.video_manifest import Entry

log = logging.getLogger(__name__)

_SHOWN = 20  # videos named in the summary


def inspect(
    path: str,
    seconds: float | None = None,
    read: Callable[[str], Any] = source_of,
) -> Entry:
    """Reads every frame of a video once, as training reads some.

    Args:
      path: local or gs://.
      seconds: time limit.
      read: path -> what `open_video` takes.

    Returns:
      What it is; a video that training cannot read has an `error`, one of which it cannot read
      every frame a `warning`.
    """
    try:
        source = read(path)
        facts = limited(lambda: _file_facts(source), seconds, path)
        facts |= limited(lambda: _video_facts(source, path, seconds), seconds, path)
    except (VideoError, OSError) as error:
        return Entry(path, error=getattr(error, "reason", None) or str(error))
    return Entry(path, **facts)


def _file_facts(source: str | bytes | FrameFolder) -> dict[str, object]:
    if isinstance(source, bytes):
        return {"bytes": len(source), "sha256": hashlib.sha256(source).hexdigest()}
    if isinstance(source, FrameFolder):
        return {}
    if not os.path.isfile(source):  # opening a FIFO would wait for its writer
        return {}
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _video_facts(
    source: str | bytes | FrameFolder, name: str, seconds: float | None
) -> dict[str, object]:
    with open_video(source, name=name, seconds=seconds) as video:
        video.scan()
        return _describe(video)


def _describe(video: Video) -> dict[str, object]:
    timing: dict[str, object] = {}
    with contextlib.suppress(VideoError):  # images do not tell their frame rate
        timing = {"fps": round(video.fps, 4), "duration": round(video.duration, 4)}
    return timing | {
        "frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        "codec": video.codec,
        "gop": video.gop,
        "warning": video.defects(),
    }


def inspect_all(
    paths: Sequence[str],
    workers: int,
    seconds: float | None = None,
    read: Callable[[str], Any] = source_of,
) -> Iterator[Entry]:
    """`inspect` of every path in parallel, in their order."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending: collections.deque[concurrent.futures.Future[Entry]] = collections.deque()
        for path in paths:
            pending.append(pool.submit(inspect, path, seconds, read))
            if len(pending) > 4 * workers:  # what is read of a remote file waits in memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def summary(entries: Sequence[Entry]) -> str:
    """A few lines on what a list holds, and which of it is bad."""
    bad = [entry for entry in entries if entry.error is not None]
    good = [entry for entry in entries if entry.error is None]
    warned = [entry for entry in good if entry.warning is not None]
    lines = [f"{len(entries)} videos, {len(bad)} bad, {len(warned)} with warnings"]
    if good:
        frames = [entry.frames for entry in good]
        hours = sum(entry.duration or 0.0 for entry in good) / 3600
        codecs = collections.Counter(entry.codec for entry in good).most_common()
        sizes = collections.Counter(f"{e.width}x{e.height}" for e in good).most_common(5)
        lines += [
            f"  {hours:.2f} hours; frames: {min(frames)} to {max(frames)}, median "
            f"{statistics.median(frames):g}",
            "  codecs: " + ", ".join(f"{name} {count}" for name, count in codecs),
            "  most frequent sizes: " + ", ".join(f"{name} {count}" for name, count in sizes),
        ]
    told = [("bad", e.video, e.error) for e in bad]
    told += [("warning", e.video, e.warning) for e in warned]
    lines += [f"  {kind}: {video}: {reason}" for kind, video, reason in told[:_SHOWN]]
    if len(told) > _SHOWN:
        lines.append(f"  and {len(told) - _SHOWN} more: see the manifest")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("list", help="list or annotation file, class folder, tar files")
    parser.add_argument("--root", default="", help="folder put before relative paths")
    parser.add_argument("--separator", default=None, help="of the fields; white space by default")
    parser.add_argument("--frames", default=None, help="images of its folders, e.g. {:05d}.jpg")
    parser.add_argument("--output", default=None, help="manifest to write; LIST.manifest.jsonl")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads")
    parser.add_argument("--seconds", type=float, default=600.0, help="time limit of a video")
    options = parser.parse_args(arguments)
    if options.workers < 1 or not options.seconds > 0:
        parser.error("--workers must be at least 1, --seconds more than 0")
    try:
        catalog = open_path(
            options.list, root=options.root, separator=options.separator, frames=options.frames
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("data_pipelines").setLevel(logging.INFO)
    indices = {catalog.video_path(index): index for index in range(len(catalog))}
    paths, read = list(indices), lambda path: catalog.source(indices[path])
    output = pathlib.Path(options.output or f"{catalog.path}.manifest.jsonl")
    entries = []
    with progress(len(paths), "videos", log) as note:
        bad = 0
        for entry in inspect_all(paths, options.workers, options.seconds, read):
            entries.append(entry)
            bad += entry.error is not None
            note(len(entries), f"{bad} bad")
    video_manifest.write(entries, output)
    print(summary(entries))
    print(f"manifest: {output}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
