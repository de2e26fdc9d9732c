"""The demo corpus: moving digits as real H.264 clips, made on this machine without a network.

`load` prepares it once and returns its TFDS builder; `python -m data_pipelines.demo` does so from
the command line. Nothing here imports TensorFlow or TFDS before a corpus is asked for.
"""

from __future__ import annotations

import os
import pathlib
import typing

from data_pipelines.demo.render import lookup

if typing.TYPE_CHECKING:
    from data_pipelines.demo.builder import FluxDemo

__all__ = ["default_data_dir", "load"]


def default_data_dir() -> pathlib.Path:
    """``$FLUXJAX_DATA_DIR``, or ``~/.cache/fluxjax``."""
    return pathlib.Path(os.environ.get("FLUXJAX_DATA_DIR") or "~/.cache/fluxjax").expanduser()


def load(
    variant: str = "easy",
    data_dir: str | os.PathLike[str] | None = None,
    *,
    num_examples: tuple[int, int] | None = None,
) -> FluxDemo:
    """Prepares the corpus if it is not there yet, and returns its TFDS builder.

    Read it with ``builder.as_data_source("train")`` (random access): `video` (the bytes of an mp4
    file), `label`, `digit` and `index`; with captions also `captions` and `photo`. An interrupted
    preparation leaves no half-written corpus: TFDS writes to a temporary directory and renames it
    at the end.

    Args:
      variant: "easy" (4 motions, 2048 + 512 clips, 16 MB), "hard" (8 motions, 4096 + 1024 clips),
        "captions" (8 motions, 3072 + 512 clips, three captions each) or "captions_easy" (likewise,
        of 4 motions, with large digits).
      data_dir: where data sets are kept; None takes `default_data_dir`.
      num_examples: (train, test) of a smaller corpus, for tests; it is kept beside the full one,
        under a name of its own.

    Raises:
      ValueError: unknown variant, or sizes below one.
    """
    lookup(variant)  # complain before TFDS is imported
    from data_pipelines.demo import builder as builder_lib

    return builder_lib.prepared(variant, os.fspath(data_dir or default_data_dir()), num_examples)
