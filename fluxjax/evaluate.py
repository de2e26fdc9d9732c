"""Evaluates a trained model: python -m fluxjax.evaluate --checkpoint runs/mine --data val.txt

Prints the tables that training prints; what an option leaves open is the run's. Nothing in the run
changes; --output DIR writes the tables as JSON and CSV. A checkpoint of no run is evaluated as a
recipe says (--config), official weights as well (--family). Several processes: the same command on
each with --coordinator, --num-processes and --process-id, or under a launcher, as for training.
"""

import argparse
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from fluxjax.checkpoints.paths import path_argument
from fluxjax.config.keys import check_config
from fluxjax.config.names import set_key
from fluxjax.config.ranges import check_devices
from fluxjax.config.recipe_files import load_recipe
from fluxjax.convert.command import convert
from fluxjax.evaluation.registry import make_evaluators, splits_read
from fluxjax.evaluation.writer import format_table, write_predictions, write_tables
from fluxjax.serving.checkpoint import CONFIG, Checkpoint, open_checkpoint
from fluxjax.serving.command import (
    add_process_options,
    add_sampling_option,
    add_view_options,
    add_vocabulary_option,
    command_parser,
    numbers,
    run_command,
)
from fluxjax.serving.run_config import config_of, evaluate_on, set_options, set_vocabulary
from fluxjax.tasks import create_task
from fluxjax.tasks.base import constants_of
from fluxjax.training import hosts
from fluxjax.training.mesh import batch_shards, make_mesh, shardings


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.evaluate", __doc__)
    add_view_options(options, default=None)
    add_sampling_option(options)
    add_process_options(options)
    add = options.add_argument
    add(
        "--data",
        type=os.path.expanduser,
        help="demo[:easy|:hard], tfds:NAME or a list file; default: the run's test data",
    )
    add("--split", help="of TFDS sources; default: the run's, or test")
    add("--data-dir", type=os.path.expanduser, help="cache of the demo corpus and TFDS")
    add("--root", type=os.path.expanduser, help="joined to relative paths of list files")
    add("--separator", help="of list files; default: white space")
    add("--config", metavar="RECIPE", help="that says how, in the place of the run's config")
    add("--family", help="--checkpoint is a file of official weights of this family, such as avion "
        "(see fluxjax.convert)")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE",
        help="a key of the config, such as eval.rerank=16; may be given several times")  # fmt: skip
    add("--grids", help="FRAMESxPIXELS, comma-separated")
    add("--budgets", help="tokens, comma-separated")
    add("--evaluators", help="classification, held_out, retrieval, zero_shot, ek100_mir, "
        "knn and others, comma-separated; default: the task's")  # fmt: skip
    add_vocabulary_option(options)
    add("--dual-softmax", type=float, help="temperature of retrieval's dual softmax; default: the "
        "run's, or none")  # fmt: skip
    add("--batch-size", type=int, help="videos")
    add("--workers", type=int, help="decoding threads")
    add("--max-bad-share", type=float, help="of unreadable videos that is accepted")
    add("--overwrite", action="store_true", help="replace the tables that --output holds")
    add("--output", metavar="DIR", type=path_argument, help="also write the tables there")
    return options


def apply_options(config: ConfigDict, checkpoint: Checkpoint, options: argparse.Namespace) -> None:
    """Puts the options into the checkpoint's config.

    Raises:
      ValueError: naming an option that cannot be read.
    """
    set_options(config, options)
    if options.grids:
        evaluate_on(config, checkpoint, options.grids.split(","))
    if options.budgets:
        config.eval.budgets = numbers(options.budgets, "budgets")
    if options.evaluators:
        config.eval.evaluators = tuple(options.evaluators.split(","))
    if options.vocabulary:
        set_vocabulary(config, options.vocabulary)
    for text in options.set:
        set_key(config, text)


def _check_output(folder: pathlib.Path, overwrite: bool) -> None:
    """Refuses a folder with results in it: a run's own, or those of another evaluation.

    Raises:
      ValueError: naming it and the remedy.
    """
    if (folder / CONFIG).exists():
        raise ValueError(f"--output={folder} is a run's folder, whose tables stay as they are")
    held = [path.name for path in sorted(folder.glob("*.json")) if not overwrite]
    if held:
        raise ValueError(
            f"--output={folder} holds {held[0]} of another evaluation; choose another folder or "
            "add --overwrite"
        )


def how(config: ConfigDict) -> str:
    """One line on what is measured: length and size of clips, views, frames."""
    evaluation = config.eval
    return (
        f"clips of {', '.join(evaluation.grids)} (frames x pixels), {evaluation.clips} x "
        f"{evaluation.crops} views, frames {config.data.sampling}"
    )


def run(options: argparse.Namespace) -> int:
    """Evaluates as the options say; the exit code.

    Raises:
      ValueError, OSError, VideoError: naming what is wrong.
    """
    hosts.start(options.distributed, options.coordinator, options.num_processes, options.process_id)
    recipe = None if options.config is None else _recipe(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.family:
            where = pathlib.Path(folder) / pathlib.Path(options.checkpoint).stem
            convert(options.family, options.checkpoint, where, **_heads(recipe))
            return measure(open_checkpoint(where), options, recipe)
        return measure(open_checkpoint(options.checkpoint), options, recipe)


def _recipe(options: argparse.Namespace) -> ConfigDict:
    """The config that --config names, with the keys of --set."""
    recipe = load_recipe(options.config)
    for text in options.set:
        set_key(recipe, text)
    return recipe


def _heads(recipe: ConfigDict | None) -> dict[str, int]:
    """What a recipe says of attention heads, which weights of unreleased sizes do not tell."""
    told = {} if recipe is None else recipe.model
    heads = {name: told.get(name) for name in ("num_heads", "text_heads")}
    return {name: count for name, count in heads.items() if count is not None}


def measure(
    checkpoint: Checkpoint, options: argparse.Namespace, recipe: ConfigDict | None = None
) -> int:
    """Evaluates a checkpoint, as a recipe says where there is one; see `run`."""
    from data_pipelines.from_config import VideoData  # needs PyAV, and TensorFlow for tf.data

    config = config_of(checkpoint, recipe)
    apply_options(config, checkpoint, options)
    if options.output:
        _check_output(pathlib.Path(options.output), options.overwrite)
    if recipe is None or options.sampling:
        config.data.sampling = checkpoint.sampling(options.sampling)
    if not config.data.test:
        raise ValueError(f"{checkpoint.folder} is of no run with test videos; pass --data")
    if not config.eval.grids:
        raise ValueError(
            f"{checkpoint.folder} does not say which sampling grid it was trained for; pass "
            "--grids, e.g. 8x224"
        )
    config.data.train = config.data.train or config.data.test
    check_config(config)
    mesh = make_mesh(config.mesh)
    check_devices(config, batch_shards(mesh))
    task = create_task(config)
    reads = splits_read(task)
    with hosts.first_goes_ahead("corpus"):  # the demo's is made on first use
        data = VideoData.open(
            config,
            jax.process_index(),
            jax.process_count(),
            splits=reads,
            # Kept classes are found by the names of their own data.
            label_names=None if config.data.classes else checkpoint.labels,
        )
    evaluators = make_evaluators(task, mesh, data)
    variables = {**checkpoint.variables, **constants_of(task).load()}
    variables = jax.device_put(variables, shardings(variables, mesh))
    if jax.process_index() == 0:
        print(how(config), file=sys.stderr)
    tables = [evaluator.run(variables) for evaluator in evaluators]
    if jax.process_index() == 0:
        for table in tables:
            print(f"\n{checkpoint.folder}: {table.title}\n\n{format_table(table)}", flush=True)
        if options.output:
            folder = pathlib.Path(options.output)
            folder.mkdir(parents=True, exist_ok=True)
            write_tables(tables, folder, checkpoint.step)
            for table in tables:
                if table.answers is not None:
                    write_predictions(table, folder)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, or 1 and one line on what is wrong."""
    return run_command(run, parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
