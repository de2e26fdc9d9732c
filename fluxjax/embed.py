"""Videos, texts to vectors: python -m fluxjax.embed --checkpoint runs/mine --output index videos/

Writes DIR/videos.npy and DIR/texts.npy, float32 unit vectors in the space that the model shares
between videos and texts, and DIR/manifest.json, which says what they are of. The folder can be
searched: python -m fluxjax.search. A video that cannot be read is named in the manifest, the others
are done, and the exit code is 1.
"""

import argparse
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.progress import progress
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.remote import check_schemes
from data_pipelines.sources.text_files import lines_of
from fluxjax.checkpoints.paths import path_argument
from fluxjax.serving.command import (
    add_sampling_option,
    add_view_options,
    add_vocabulary_option,
    check_positive,
    command_parser,
    run_command,
)
from fluxjax.serving.embedder import VIDEOS, Embedder, open_embedder
from fluxjax.serving.video_files import file_record, listed
from fluxjax.serving.video_index import VideoIndex, checksum, vacant, whole_path, write_index

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.embed", __doc__)
    add_view_options(options, default=None)
    add_sampling_option(options)
    add_vocabulary_option(options)
    add = options.add_argument
    add("videos", nargs="*", metavar="VIDEO", help="files, folders of videos, gs:// addresses")
    add("--output", required=True, metavar="DIR", type=path_argument, help="folder to write")
    add("--overwrite", action="store_true", help="replace the embeddings that --output holds")
    add("--data", type=os.path.expanduser, help="a data set in the place of VIDEO: demo:captions, "
        "tfds:NAME or a list file; its captions go to the manifest")  # fmt: skip
    add("--split", default="test", help="of it; default: %(default)s")
    add("--data-dir", type=os.path.expanduser, help="cache of the demo corpus and TFDS")
    add("--root", type=os.path.expanduser, default="", help="joined to relative paths of lists")
    add("--separator", help="of list files; default: white space")
    add("--text", action="append", default=[], help="a text to embed; may be repeated")
    add("--texts", metavar="FILE", type=path_argument, help="texts to embed, one a line")
    add("--grid", help="FRAMESxPIXELS; default: the first that the run was evaluated on")
    add("--budget", type=int, help="tokens kept a view, of a model with budgets; default: the "
        "largest")  # fmt: skip
    add("--batch-size", type=int, default=VIDEOS, help="videos run at once; default: %(default)s")
    add("--workers", type=int, default=2, help="decoding threads; default: %(default)s")
    return options


def check(options: argparse.Namespace) -> None:
    """Refuses options that cannot be served, before anything is loaded.

    Raises:
      ValueError: naming the option.
    """
    check_positive(options, "clips", "crops", "batch_size", "workers")
    check_schemes(options.videos)
    if options.data and options.videos:
        raise ValueError(f"--data={options.data} and {options.videos[0]} are given: leave one out")
    if not (options.data or options.videos or options.text or options.texts):
        raise ValueError("nothing to embed: name videos, --data, --text or --texts")
    if not options.data:
        for option in ("data_dir", "root", "separator"):
            if getattr(options, option):
                raise ValueError(f"--{option.replace('_', '-')} is of a data set: give --data")
    vacant(options.output, options.overwrite)


def sources(options: argparse.Namespace) -> tuple[Sequence[Any], dict[str, Any] | None]:
    """The videos: paths, or a catalog and what opens it again.

    Raises:
      ValueError, OSError: if the data set cannot be opened, or a folder has no videos.
    """
    if not options.data:
        return [whole_path(path) for path in listed(options.videos)], None
    data = {
        "source": _lasting(options.data),
        "split": options.split,
        "data_dir": _lasting(options.data_dir),
        "root": _lasting(options.root),
        "separator": options.separator,
    }
    return open_catalog(**data), data


def texts_of(options: argparse.Namespace) -> list[str]:
    """Those of --text and --texts.

    Raises:
      ValueError: if one is empty.
    """
    texts = [text.strip() for text in options.text]
    if options.texts:
        lines = lines_of(pathlib.Path(options.texts).read_text(encoding="utf-8"))
        texts += [line.strip() for line in lines if line.strip()]
    if "" in texts:
        raise ValueError("--text='' says nothing")
    return texts


def embed_videos(embedder: Embedder, videos: Sequence[Any], options: argparse.Namespace):
    """Rows [N, E], their entries in the manifest, and those of videos without a row."""
    rows, entries, failed = [], [], []
    of_data = bool(options.data)
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

    found = embedder.videos(read(), options.batch_size, options.workers)
    with progress(len(videos), "videos", log) as note:
        for number, row in enumerate(found):
            entry, records[number] = records[number], None
            if isinstance(row, VideoError):
                print(f"error: {entry['video']}: {row.reason}", file=sys.stderr)
                failed.append({**entry, "error": row.reason})
            else:
                rows.append(row)
                entries.append(entry)
            note(number + 1, "embedding")
    return rows, entries, failed


def run(options: argparse.Namespace) -> int:
    """Embeds as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    check(options)
    texts = texts_of(options)
    videos, data = sources(options)
    embedder = open_embedder(
        options.checkpoint, grid=options.grid, budget=options.budget, sampling=options.sampling,
        clips=options.clips, crops=options.crops, vocabulary=options.vocabulary,
    )  # fmt: skip
    print(embedder, file=sys.stderr)
    of_texts = embedder.texts(texts) if texts else None  # first: a vocabulary may be missing
    rows, entries, failed = embed_videos(embedder, videos, options)
    width = len(rows[0]) if rows else 0 if of_texts is None else of_texts.shape[1]
    empty = np.zeros((0, width), np.float32)
    checkpoint = embedder.checkpoint
    manifest = {
        "checkpoint": os.path.abspath(checkpoint.folder),
        "checkpoint_sha256": checksum(checkpoint),
        "model": type(checkpoint.model).__name__,
        "step": checkpoint.step,
        "task": embedder.task.config.task,
        "vocabulary": _lasting(options.vocabulary),
        "grid": str(embedder.grid),
        "budget": embedder.plan.budget,
        "sampling": embedder.sampling,
        "clips": embedder.clips,
        "crops": embedder.crops,
        "data": data,
        "videos": entries,
        "texts": texts,
        "failed": failed,
    }
    index = VideoIndex(
        manifest, np.stack(rows) if rows else empty, empty if of_texts is None else of_texts
    )
    write_index(options.output, index)
    print(f"{len(entries)} videos and {len(texts)} texts of {width} numbers are in "
          f"{options.output}; {len(failed)} videos could not be read")  # fmt: skip
    return int(bool(failed))


def _lasting(path: str | None) -> str | None:
    """The path of a file, from any folder; what names no file, such as demo:captions, as it is."""
    return whole_path(path) if path and os.path.exists(path) else path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, 1 where a video or an option failed."""
    return run_command(run, parser().parse_intermixed_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
