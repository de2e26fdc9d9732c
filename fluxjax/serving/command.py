"""What the commands share: their first options, their log, and one line for what goes wrong."""

import argparse
import os
import sys
from collections.abc import Callable

from data_pipelines.reading.errors import VideoError
from fluxjax.checkpoints.paths import path_argument
from fluxjax.logs import set_up_logging
from fluxjax.options import OptionParser
from fluxjax.training import hosts

CHECKPOINT_HELP = "training run or inference checkpoint"


def command_parser(prog: str, doc: str, *aliases: str) -> argparse.ArgumentParser:
    """A parser for `python -m PROG` with the option that every command on a model has.

    Args:
      prog: module name, such as fluxjax.predict.
      doc: the module's docstring; its first line is the description.
      *aliases: other names that --checkpoint had in this command.
    """
    options = OptionParser(prog=f"python -m {prog}", description=doc.splitlines()[0])
    names = ("--checkpoint", *aliases)
    options.add_argument(
        *names, required=True, metavar="RUN_OR_FOLDER", type=path_argument, help=CHECKPOINT_HELP
    )
    return options


def add_view_options(options: argparse.ArgumentParser, default: int | None = 1) -> None:
    """--clips and --crops: how many views of a video are averaged. None: as in training."""
    shown = "those of the evaluation in training" if default is None else "%(default)s"
    for name, what in (("clips", "temporal views a video"), ("crops", "spatial views a clip")):
        options.add_argument(
            f"--{name}", type=int, default=default, help=f"{what}; default: {shown}"
        )


def add_sampling_option(options: argparse.ArgumentParser) -> None:
    """--sampling: how frames are chosen."""
    options.add_argument(
        "--sampling",
        help="which frames: sparse, ssv2, interval, dense:STRIDE, time:SECONDS or fps:RATE; "
        "default: as in training",
    )


def add_vocabulary_option(options: argparse.ArgumentParser) -> None:
    """--vocabulary: how texts become token ids."""
    options.add_argument(
        "--vocabulary",
        metavar="FILE",
        type=path_argument,
        help="of texts: bpe_simple_vocab_16e6.txt.gz, vocab.txt or a tokenizer.json; default: the "
        "run's",
    )


def add_process_options(options: argparse.ArgumentParser) -> None:
    """How several processes are joined, see `fluxjax.training.hosts.start`."""
    add = options.add_argument
    join = "join several processes: detected by their launcher, elsewhere give the next three"
    add("--distributed", choices=hosts.MODES, default="auto", help=join)
    add("--coordinator", metavar="HOST:PORT", help="of process 0")
    add("--num-processes", type=int, help="that are joined")
    add("--process-id", type=int, help="number of this process, from 0")


def add_data_options(options: argparse.ArgumentParser, default: str) -> None:
    """--data and what belongs to it: which videos are measured, and how they are read."""
    add = options.add_argument
    add(
        "--data",
        type=os.path.expanduser,
        help=f"demo[:easy|:hard], tfds:NAME or a list file; default: {default}",
    )
    add("--split", help="default: the run's, or test")
    add("--data-dir", type=os.path.expanduser, help="cache of the demo corpus and TFDS")
    add("--root", type=os.path.expanduser, help="joined to relative paths of list files")
    add("--separator", help="of list files; default: white space")
    add("--batch-size", type=int, default=64, help="videos")
    add("--workers", type=int, default=2, help="decoding threads")
    add("--max-bad-share", type=float, default=0.05, help="of unreadable videos that is accepted")


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raises ValueError naming the first of the options that is smaller than 1."""
    for name in names:
        if getattr(options, name) is not None and getattr(options, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}={getattr(options, name)} must be at least 1")


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers between commas.

    Raises:
      ValueError: naming the option and an example.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{option}={text} must be whole numbers with commas, e.g. 128,256"
        ) from None


def run_command(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """The exit code: of `run`, or 1 after one line that says what is wrong."""
    set_up_logging()
    try:
        return run(options)
    except (ValueError, OSError, VideoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
