"""Videos, texts to vectors: python -m fluxjax.embed --checkpoint runs/mine --output index videos/

Writes DIR/videos.npy and DIR/texts.npy, float32 unit vectors in the space that the model shares
between videos and texts, and DIR/manifest.json, which says what they are of. The folder can be
searched: python -m fluxjax.search. A video that cannot be read is named in the manifest, the others
are done, and the exit code is 1. With --tokens, DIR has a file of each video's tokens instead, for
language models.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

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
from fluxjax.serving.embedder import VIDEOS, open_embedder
from fluxjax.serving.every_video import embed_every, lasting, what_was_run
from fluxjax.serving.token_folder import write_token_folder
from fluxjax.serving.token_reader import open_token_reader
from fluxjax.serving.video_files import listed
from fluxjax.serving.video_index import VideoIndex, vacant, whole_path, write_index


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
    add("--tokens", choices=("npz", "safetensors"), help="write the tokens after the last block "
        "instead, with places and validity, a file of this kind a video")  # fmt: skip
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
    if options.tokens:
        for option in ("text", "texts", "vocabulary", "overwrite"):
            if getattr(options, option):
                raise ValueError(f"--{option} has no meaning with --tokens; leave it out")
        return
    vacant(options.output, options.overwrite)


_SETTINGS = ("grid", "budget", "sampling", "clips", "crops")  # how a checkpoint is run


def sources(options: argparse.Namespace) -> tuple[Sequence[Any], dict[str, Any] | None]:
    """The videos: paths, or a catalog and what opens it again.

    Raises:
      ValueError, OSError: if the data set cannot be opened, or a folder has no videos.
    """
    if not options.data:
        return [whole_path(path) for path in listed(options.videos)], None
    data = {
        "source": lasting(options.data),
        "split": options.split,
        "data_dir": lasting(options.data_dir),
        "root": lasting(options.root),
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


def run(options: argparse.Namespace) -> int:
    """Embeds as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    check(options)
    texts = texts_of(options)
    videos, data = sources(options)
    settings = {name: getattr(options, name) for name in _SETTINGS}
    pace = {"batch_size": options.batch_size, "workers": options.workers}
    if options.tokens:
        reader = open_token_reader(options.checkpoint, **settings)
        print(reader, file=sys.stderr)
        written, failed = write_token_folder(
            reader, videos, options.output, options.tokens, data, **pace
        )
        print(f"tokens of {written} videos are in {options.output}; {failed} could not be read")
        return int(bool(failed))
    embedder = open_embedder(options.checkpoint, vocabulary=options.vocabulary, **settings)
    print(embedder, file=sys.stderr)
    of_texts = embedder.texts(texts) if texts else None  # first: a vocabulary may be missing
    rows = []
    entries, failed = embed_every(
        embedder, videos, lambda row, entry: rows.append(row), of_data=bool(options.data), **pace
    )
    width = len(rows[0]) if rows else 0 if of_texts is None else of_texts.shape[1]
    empty = np.zeros((0, width), np.float32)
    manifest = what_was_run(embedder) | {
        "vocabulary": lasting(options.vocabulary),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, 1 where a video or an option failed."""
    return run_command(run, parser().parse_intermixed_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
