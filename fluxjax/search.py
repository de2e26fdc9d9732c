"""Videos that a text describes: python -m fluxjax.search --index index "a three moving up"

Searches what python -m fluxjax.embed has embedded, with the same model.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from data_pipelines.clips.views import eval_views
from data_pipelines.reading.errors import VideoError
from fluxjax.checkpoints.paths import path_argument
from fluxjax.options import OptionParser
from fluxjax.serving.command import add_vocabulary_option, check_positive, run_command
from fluxjax.serving.contact_sheet import Row, contact_sheet
from fluxjax.serving.embedder import Embedder, open_embedder
from fluxjax.serving.video_index import VideoIndex, checksum, read_index, records_of

SHEET_FRAMES, SHEET_PIXELS = 8, 128  # of a hit: frames at most, and their side


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = OptionParser(prog="python -m fluxjax.search", description=__doc__.splitlines()[0])
    add_vocabulary_option(options)
    add = options.add_argument
    add("queries", nargs="+", metavar="TEXT", help="what to look for")
    add("--index", required=True, metavar="DIR", type=path_argument, help="what embed wrote")
    add("--top", type=int, default=5, help="videos found for a text; default: %(default)s")
    add("--json", action="store_true", help="one JSON object a line, one for each text")
    add("--sheet", metavar="FILE", type=path_argument, help="also draw frames of the videos found "
        "into this .png")  # fmt: skip
    add("--checkpoint", metavar="RUN_OR_FOLDER", type=path_argument, help="where the model of the "
        "index lies now; default: where it lay")  # fmt: skip
    return options


def check(options: argparse.Namespace) -> None:
    """Refuses options that cannot be served, before anything is loaded.

    Raises:
      ValueError: naming the option.
    """
    check_positive(options, "top")
    if not all(text.strip() for text in options.queries):
        raise ValueError("TEXT='' says nothing")
    if options.sheet and not options.sheet.endswith(".png"):
        raise ValueError(f"--sheet={options.sheet} must end in .png")


def embedder_of(index: VideoIndex, options: argparse.Namespace) -> Embedder:
    """The model that made the index.

    Raises:
      ValueError, OSError: if it is not there, or another one.
    """
    manifest = index.manifest
    folder = options.checkpoint or manifest["checkpoint"]
    embedder = open_embedder(
        folder, grid=manifest["grid"], budget=manifest["budget"], sampling=manifest["sampling"],
        clips=manifest["clips"], crops=manifest["crops"],
        vocabulary=options.vocabulary or manifest["vocabulary"],
    )  # fmt: skip
    if checksum(embedder.checkpoint) != manifest["checkpoint_sha256"]:
        raise ValueError(
            f"the index {options.index} is not of the model that is in {folder} now: embed the "
            "videos again, or name its model by --checkpoint"
        )
    return embedder


def draw(
    index: VideoIndex, found: Sequence[tuple[str, list]], embedder: Embedder, target: str
) -> bool:
    """Writes the sheet, a heading for each text and a row for each video; whether all were read."""
    rows, good = [], True
    for text, hits in found:
        rows.append(Row(f'"{text}"'))
        records = records_of(index.manifest, [row for row, _ in hits])
        for (row, score), record in zip(hits, records, strict=True):
            frames, label = None, f"{score:.3f}  {index.manifest['videos'][row]['video']}"
            try:
                if isinstance(record, VideoError):
                    raise record
                frames = eval_views(
                    record, embedder.grid, embedder.sampling, pixels=SHEET_PIXELS,
                    places=embedder.checkpoint.places,
                )[0]  # fmt: skip
            except VideoError as error:
                print(f"error: {error.name}: {error.reason}", file=sys.stderr)
                label, good = f"{label}: {error.reason}", False
            rows.append(Row(label, frames))
    contact_sheet(rows, SHEET_FRAMES, SHEET_PIXELS).save(pathlib.Path(target), format="PNG")
    return good


def run(options: argparse.Namespace) -> int:
    """Searches as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    check(options)
    index = read_index(options.index)
    if not len(index.videos):
        raise ValueError(f"the index {options.index} holds no video")
    embedder = embedder_of(index, options)
    queries = embedder.texts(options.queries)
    found = [(text, index.nearest(query, options.top))
             for text, query in zip(options.queries, queries, strict=True)]  # fmt: skip
    for text, hits in found:
        videos = [{**index.manifest["videos"][row], "score": round(score, 6)}
                  for row, score in hits]  # fmt: skip
        if options.json:
            print(json.dumps({"query": text, "hits": videos}, ensure_ascii=False), flush=True)
            continue
        print(text)
        for hit in videos:
            said = f"  ({hit['captions'][0]})" if hit.get("captions") else ""
            print(f"  {hit['score']:7.3f}  {hit['video']}{said}", flush=True)
    good = draw(index, found, embedder, options.sheet) if options.sheet else True
    return int(not good)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, 1 where a video or an option failed."""
    return run_command(run, parser().parse_intermixed_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
