"""vid-TLDR's merging against merging without saliency and at random, on trained demo models.

    python -m benchmarks.umt_merging_ways --work runs/umt_study

Runs configs/umt_demo.py once a seed, and measures retrieval with every schedule and way of merging,
none of which the models were trained with. What is there is not run again. Writes
umt_merging_ways.json and .svg into --output, and prints the table.

- saliency: vid-TLDR. Similar tokens merge, each weighted by how sharply it attends.
- similarity: the same pairs, all tokens of a weight (as in ToMe, whose pairs come from keys).
- random: pairs of no similarity, all tokens of a weight.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from unittest import mock

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from data_pipelines.from_config import VideoData
from fluxjax.budgets.figures import svg
from fluxjax.budgets.merging import ScheduledRetrieval, shape_of
from fluxjax.budgets.schedules import parse_schedule, saving, schedule_name
from fluxjax.evaluation.machine import this_machine
from fluxjax.evaluation.retrieval import Retrieval
from fluxjax.evaluation.tables import markdown_table
from fluxjax.models import vit_blocks
from fluxjax.models.blocks import Merging, merged
from fluxjax.models.umt_compute import encoder_gmacs
from fluxjax.serving.checkpoint import open_checkpoint
from fluxjax.serving.run_config import config_of
from fluxjax.tokens.grids import parse_grid
from fluxjax.tokens.merging import Merged, merge, unmerged
from fluxjax.training.mesh import make_mesh, shardings

NAME = "umt_merging_ways"
SCHEDULES = "none;12;18,9;24,12;36,18;36,18,9"
# name -> colour, marker
SHOWN = {
    "saliency": ("#D55E00", "o"),
    "similarity": ("#0072B2", "s"),
    "random": ("#009E73", "^"),
}

# Way -> schedule -> R@1 of texts and of videos.
Scores = dict[str, dict[str, tuple[float, float]]]


def by_similarity(x: jax.Array, sharp, valid, merging: Merging) -> Merged:
    """As `fluxjax.models.blocks.merged`, without saliency."""
    if sharp is None:
        return unmerged(x, merging.mass, valid)
    return merge(x, None, merging.r, merging.mass, valid)


def at_random(x: jax.Array, sharp, valid, merging: Merging) -> Merged:
    """As `by_similarity`, of pairs that are drawn: other ones in every clip and at every size."""
    if sharp is None:
        return unmerged(x, merging.mass, valid)
    drawn = jax.random.normal(jax.random.key(x.shape[1]), x.shape)
    pairs = merge(drawn, None, merging.r, merging.mass, valid)
    mass = jnp.ones(x.shape[:2]) if merging.mass is None else merging.mass
    share = jax.nn.one_hot(pairs.assignment, pairs.values.shape[1]) * mass[..., None]
    values = jnp.einsum("bnm,bnc->bmc", share, x) / pairs.mass[..., None]
    return pairs.replace(values=values.astype(x.dtype))


WAYS = {"saliency": merged, "similarity": by_similarity, "random": at_random}


def trained(options: argparse.Namespace, seed: int) -> pathlib.Path:
    """The folder of a seed's run; the run itself, where it is not there.

    Raises:
      CalledProcessError: if the run fails.
    """
    run = pathlib.Path(options.work) / f"umt_{seed}"
    if not (run / "model").is_dir():
        command = [sys.executable, "-m", "fluxjax.main", "--config=configs/umt_demo.py",
                   f"--workdir={run}", f"--config.seed={seed}", *options.config]  # fmt: skip
        subprocess.run(command, check=True)
    return run


def measured(options: argparse.Namespace, seed: int) -> Scores:
    """R@1 of a seed's model at every schedule in every way, which an earlier call may have left."""
    run = trained(options, seed)
    kept = run / f"{NAME}.json"
    scores = json.loads(kept.read_text()) if kept.is_file() else {}
    schedules = options.schedules.split(";")
    for way in WAYS:
        found = scores.setdefault(way, {})
        missing = [text for text in schedules if text not in found]
        if missing:
            found |= retrieval(run, way, missing)
            kept.write_text(json.dumps(scores, indent=2) + "\n")
    return {way: {text: tuple(scores[way][text]) for text in schedules} for way in WAYS}


def retrieval(
    run: pathlib.Path, way: str, schedules: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """R@1 of texts and of videos at each schedule, of a run's model that merges in a way."""
    checkpoint = open_checkpoint(run)
    config = config_of(checkpoint)
    config.eval.evaluators = ("retrieval",)
    (grid,) = map(parse_grid, config.eval.grids)
    task = ScheduledRetrieval(config, {grid: tuple(map(parse_schedule, schedules))})
    mesh = make_mesh(config.mesh)
    data = VideoData.open(config, splits=Retrieval.splits, label_names=checkpoint.labels)
    variables = jax.device_put(checkpoint.variables, shardings(checkpoint.variables, mesh))
    with mock.patch.object(vit_blocks, "merged", WAYS[way]):
        rows = Retrieval(task, mesh, data).run(variables).rows
    r1 = {(row["budget"], row["direction"]): row["recall_at_1"] for row in rows}
    return {text: (r1[text, "text"], r1[text, "video"]) for text in schedules}


def costs(run: pathlib.Path, schedules: Sequence[str]) -> dict[str, tuple[float, float]]:
    """GMACs of a clip and the share saved, by schedule."""
    checkpoint = open_checkpoint(run)
    shape = shape_of(checkpoint.model, checkpoint.default_grid())
    merges = {text: parse_schedule(text) for text in schedules}
    return {
        text: (encoder_gmacs(checkpoint.model, shape, m), saving(checkpoint.model, shape, m))
        for text, m in merges.items()
    }


def table_of(seeds: Sequence[Scores], cost: Mapping[str, tuple[float, float]]) -> str:
    """A row a schedule, a column a way: mean R@1 of texts and each seed's."""
    body = []
    for text, (gmacs, saved) in cost.items():
        cells = [_spread([100 * one[way][text][0] for one in seeds]) for way in WAYS]
        cells = cells if parse_schedule(text) else [cells[0], "", ""]
        body.append([schedule_name(parse_schedule(text)), f"{gmacs:.4f}", f"{saved:.0%}", *cells])
    return markdown_table(["merge", "GMACs", "saved", *WAYS], body) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ({', '.join(f'{x:.1f}' for x in values)})"


def figure_of(seeds: Sequence[Scores], cost: Mapping[str, tuple[float, float]]) -> Figure:
    """Mean R@1 of texts with the seeds' range against GMACs."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for way, (colour, marker) in SHOWN.items():
        rows = {text: [100 * one[way][text][0] for one in seeds] for text in cost}
        mean = [statistics.mean(row) for row in rows.values()]
        low = [m - min(row) for m, row in zip(mean, rows.values(), strict=True)]
        high = [max(row) - m for m, row in zip(mean, rows.values(), strict=True)]
        axes.errorbar([gmacs for gmacs, _ in cost.values()], mean, yerr=(low, high), label=way,
                      color=colour, marker=marker, capsize=2, markersize=5)  # fmt: skip
    axes.set_xlabel("GMACs of a clip, video encoder")
    axes.set_ylabel("R@1 of texts, %; bars: all seeds")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/umt_study")
    parser.add_argument("--output", default="docs/study")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--schedules", default=SCHEDULES, help="separated by ;")
    parser.add_argument("config", nargs="*", help="options of every run, after --, such as "
                        "--config.total_steps=200")  # fmt: skip
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    scores = [measured(options, seed) for seed in seeds]
    cost = costs(trained(options, seeds[0]), options.schedules.split(";"))
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    record = {"seeds": seeds, "config": options.config, "machine": this_machine(),
              "gmacs_and_saved": cost, "text_and_video_r1": scores}  # fmt: skip
    (output / f"{NAME}.json").write_text(json.dumps(record, indent=2) + "\n")
    (output / f"{NAME}.svg").write_bytes(svg(figure_of(scores, cost)))
    print(table_of(scores, cost))


if __name__ == "__main__":
    main()
