"""Cuts long videos into chunks of some seconds, small and with frequent key frames.

A long video becomes a folder of its own name: VIDEO.mp4/0.mp4, VIDEO.mp4/15.mp4, .., which data
pipelines read as the one video that it was. Short clips of it then cost no decoding of the rest.

python -m data_pipelines.prepare VIDEOS OUTPUT [--seconds 15] [--short-side 288] [--workers N]

VIDEOS is a folder (its videos at any depth) or a list, annotation or narration file of videos under
--root. Run again, the command goes on where it was stopped: a chunk is there whole or not at all.
OUTPUT/manifest.jsonl says what became of each video (`--config.data.manifests` takes it). Exit
status 1 if a video could not be read.
"""

import argparse
import concurrent.futures.process
import contextlib
import dataclasses
import fcntl
import fractions
import json
import logging
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from data_pipelines.prepare.cut import cut
from data_pipelines.prepare.encode import Settings
from data_pipelines.progress import progress
from data_pipelines.reading.folders import VIDEOS
from data_pipelines.sources import video_manifest
from data_pipelines.sources.catalog import open_path
from data_pipelines.sources.video_manifest import Entry

log = logging.getLogger(__name__)

MANIFEST, SETTINGS = "manifest.jsonl", "prepare.json"
SAVE_SECONDS = 10.0  # between two writings of the manifest
_SHOWN = 20  # bad videos named in the end


def find_videos(source: str, root: str, separator: str | None) -> dict[str, str]:
    """Name of each folder of chunks, relative to OUTPUT -> path of its video.

    Raises:
      OSError, ValueError: there is no such folder or list, it names no video, or one outside.
    """
    if os.path.isdir(source):
        if root:
            raise ValueError(f"--root={root} has no meaning for a folder; leave it out")
        folder = pathlib.Path(source)
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS and p.is_file())
        found = {str(path.relative_to(folder)): str(path) for path in paths}
        if not found:
            raise ValueError(f"no video (*.mp4, *.mkv, ..) below the folder {source}")
        return found
    catalog = open_path(source, root=root, separator=separator)
    found = {}
    for index in range(len(catalog)):
        path = catalog.video_path(index)
        name = os.path.relpath(path, root) if root else path
        if os.path.isabs(name) or name.startswith(".."):
            raise ValueError(f"{path} lies outside; give the folder of all videos as --root")
        found[os.path.normpath(name)] = path
    return found


@contextlib.contextmanager
def claimed(output: pathlib.Path, settings: Settings) -> Iterator[None]:
    """Keeps other runs, and runs with other settings, away from a folder.

    Raises:
      ValueError: another run is at work there, or one with other settings has been.
    """
    output.mkdir(parents=True, exist_ok=True)
    said = dataclasses.asdict(settings) | {"fps": settings.fps and str(settings.fps)}
    with open(output / SETTINGS, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run is writing to {output}; wait for it") from None
        file.seek(0)
        before = file.read()
        if before and json.loads(before) != said:
            raise ValueError(
                f"{output} was made with {before.strip()}, not {json.dumps(said)}; choose another "
                "folder, or the same options"
            )
        if not before:
            file.write(json.dumps(said) + "\n")
            file.flush()
        yield


def prepare(
    videos: Mapping[str, str], output: pathlib.Path, settings: Settings, workers: int
) -> dict[str, Entry]:
    """Cuts videos in parallel processes and keeps the manifest.

    Args:
      videos: see `find_videos`.
      output: folder that is claimed.
      settings: how to cut.
      workers: processes.

    Returns:
      Folder of chunks -> what it holds.

    Raises:
      OSError: chunks cannot be written.
    """
    path = output / MANIFEST
    entries = video_manifest.read(path) if path.exists() else {}
    folders = {str(output / name): source for name, source in videos.items()}
    todo = {f: s for f, s in folders.items() if f not in entries or not _is_whole(entries[f], f)}
    if len(todo) < len(folders):
        log.info("%d of %d videos are cut already", len(folders) - len(todo), len(folders))
    saved = time.monotonic()
    spawn = multiprocessing.get_context("spawn")  # decoders and threads do not survive a fork
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn)
    try:
        with progress(len(todo), "videos", log) as note:
            futures = [pool.submit(cut, source, f, settings) for f, source in todo.items()]
            bad = 0
            for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                entry = future.result()
                entries[entry.video] = entry
                bad += entry.error is not None
                note(done, f"{bad} bad")
                if time.monotonic() - saved > SAVE_SECONDS:
                    video_manifest.write(entries.values(), path)
                    saved = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        video_manifest.write(entries.values(), path)
    return {folder: entries[folder] for folder in folders}


def _is_whole(entry: Entry, folder: str) -> bool:
    """Whether a video was cut, and its chunks are there still, as far as their sizes tell."""
    if entry.error is not None or not os.path.isdir(folder):
        return False
    files = (file for file in os.scandir(folder) if not file.name.startswith("."))
    return sum(file.stat().st_size for file in files) == entry.bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    default = Settings()
    add("videos", help="folder of videos, or list, annotation or narration file")
    add("output", help="folder for the chunks")
    add("--root", default="", help="folder put before relative paths of a list")
    add("--separator", default=None, help="of the fields of a list; white space by default")
    add("--seconds", type=float, default=default.seconds, help="length of a chunk (15)")
    add("--short-side", type=int, default=default.short_side,
        help="pixels that larger pictures are scaled down to (288); 0: keep the size")  # fmt: skip
    add("--fps", type=fractions.Fraction, default=None, help="frames a second; each video's own")
    add("--gop", type=int, default=default.gop, help="frames from key frame to key frame (12)")
    add(
        "--crf", type=int, default=default.crf, help="x264's quality, 0 to 51 (23); lower is better"
    )
    add(
        "--lossless", action="store_true", help="keep every pixel; with --short-side=0, the video's"
    )
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    for name, low in (("seconds", 0.1), ("short_side", 0), ("gop", 1), ("crf", 0), ("workers", 1)):
        if not getattr(options, name) >= low:
            parser.error(f"--{name.replace('_', '-')} must be at least {low}")
    if options.fps is not None and options.fps <= 0:
        parser.error("--fps must be more than 0")
    crf = None if options.lossless else options.crf
    settings = Settings(options.seconds, options.short_side or None, options.fps, options.gop, crf)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("data_pipelines").setLevel(logging.INFO)
    output = pathlib.Path(options.output)
    try:
        videos = find_videos(options.videos, options.root, options.separator)
        with claimed(output, settings):
            entries = prepare(videos, output, settings, options.workers)
    except (ValueError, OSError, concurrent.futures.process.BrokenProcessPool) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(list(entries.values())))
    print(f"manifest: {output / MANIFEST}")
    return 1 if any(entry.error for entry in entries.values()) else 0


def summary(entries: Sequence[Entry]) -> str:
    """A few lines on what was made, and which videos could not be read."""
    good = [entry for entry in entries if entry.error is None]
    hours = sum(entry.duration for entry in good) / 3600
    size = sum(entry.bytes for entry in good) / 1e9
    told = [f"  bad: {entry.video}: {entry.error}" for entry in entries if entry.error]
    told += [f"  warning: {entry.video}: {entry.warning}" for entry in good if entry.warning]
    lines = [
        f"{len(good)} videos, {hours:.2f} hours, {size:.3f} GB; {len(entries) - len(good)} bad"
    ]
    lines += told[:_SHOWN]
    if len(told) > _SHOWN:
        lines.append(f"  and {len(told) - _SHOWN} more: see the manifest")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
