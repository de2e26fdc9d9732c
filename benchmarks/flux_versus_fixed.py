"""Flexible training against training on one grid: the same model, corpus, seeds and steps.

    python -m benchmarks.flux_versus_fixed --work runs/study --steps 400 --seeds 0,1,2

"flux" is configs/fluxvit_ti.py: grids of 4 to 8 frames and 42 or 56 pixels, three budgets a step.
"fixed" is the same recipe on 8x56 alone with all 128 tokens (flux_single), "fixed24" on 8x56 with
24 selected ones. Each is trained once a seed, then measured by `fluxjax.budgets` on plain grids and
with token selection. What is there is not run again. Writes flux_versus_fixed.json, .md and .svg
into --output.
"""

import argparse
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from fluxjax.budgets.figures import log_axis, svg
from fluxjax.budgets.points import Point, read_report
from fluxjax.evaluation.machine import this_machine

# Selection on the grid that both know, and plain grids of as few tokens.
SWEEPS = (
    ("--grids=8x56", "--budgets=48,24,12", "--methods=none,group_dynamic"),
    ("--grids=4x42,6x28,4x28", "--methods=none"),
)
FIXED_GRID = (
    "--config.method=flux_single", "--config.grids.frames=(8,)",
    "--config.grids.resolutions=(56,)", "--config.grids.min_tokens=128",
)  # fmt: skip
RECIPES = {
    "flux": (),
    "fixed": (*FIXED_GRID, "--config.budgets=(128,)"),
    "fixed24": (*FIXED_GRID, "--config.budgets=(24,)", "--config.eval.budgets=(24,)"),
}
WAYS = {"none": "plain grids", "group_dynamic": "token selection"}
STYLES = {"flux": ("#D55E00", "o"), "fixed": ("#0072B2", "s"), "fixed24": ("#009E73", "^")}


def execute(*command: str) -> None:
    """Runs a module of this repository.

    Raises:
      CalledProcessError: if it fails.
    """
    subprocess.run([sys.executable, "-m", *command], check=True)


def measured(options: argparse.Namespace, recipe: str, seed: int) -> tuple[Point, ...]:
    """Trains and sweeps one model, or reads what an earlier call left."""
    run = pathlib.Path(options.work) / f"{recipe}_{seed}"
    if not (run / "model").is_dir():
        data = [f"--config.data.dir={options.data_dir}"] if options.data_dir else []
        execute(
            "fluxjax.main", "--config=configs/fluxvit_ti.py", f"--workdir={run}",
            f"--config.seed={seed}", f"--config.total_steps={options.steps}",
            "--config.eval.grids=('8x56',)", "--config.eval.budgets=(48,)", *RECIPES[recipe], *data,
        )  # fmt: skip
    common = (f"--workdir={run}", "--pictures=0", "--repeats=3", f"--videos={options.videos}")
    for sweep in SWEEPS:
        execute("fluxjax.budgets", *common, *sweep)
    return read_report(run / "budgets.json").points


def rows_of(points: dict[tuple[str, int], tuple[Point, ...]]) -> Iterator[dict]:
    """For each recipe, way and number of tokens: mean, standard deviation and all seeds."""
    for recipe, way in itertools.product(RECIPES, WAYS):
        found: dict[tuple[int, str], list[Point]] = {}
        for (name, _), report in points.items():
            for point in report:
                if (name, point.method) == (recipe, way):
                    found.setdefault((point.budget, point.grid), []).append(point)
        for (budget, grid), seeds in sorted(found.items(), reverse=True):
            top1 = [point.top1 for point in seeds]
            yield {
                "training": recipe,
                "way": way,
                "tokens": budget,
                "grid": grid,
                "gmacs": seeds[0].gmacs,
                "mean": statistics.mean(top1),
                "std": statistics.stdev(top1) if len(top1) > 1 else 0.0,
                "seeds": top1,
            }


def figure_of(rows: Sequence[dict]) -> Figure:
    """Mean top-1 with the seeds' range against GMACs, a line a recipe and way."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for recipe, (colour, marker) in STYLES.items():
        for way, name in WAYS.items():
            own = sorted((r for r in rows if (r["training"], r["way"]) == (recipe, way)),
                         key=lambda row: row["gmacs"])  # fmt: skip
            x, mean = [r["gmacs"] for r in own], [100 * r["mean"] for r in own]
            low = [100 * (r["mean"] - min(r["seeds"])) for r in own]
            high = [100 * (max(r["seeds"]) - r["mean"]) for r in own]
            axes.errorbar(
                x, mean, yerr=(low, high), color=colour, marker=marker, capsize=2, markersize=5,
                linestyle="-" if way == "group_dynamic" else "--",
                label=f"{recipe} training, {name}",
            )  # fmt: skip
    log_axis(axes.xaxis)
    axes.set_xlabel("GMACs a clip")
    axes.set_ylabel("held-out top-1, %; bars: all seeds")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def table_of(rows: Sequence[dict]) -> str:
    """The rows as Markdown."""
    lines = ["| training | way | tokens | grid | GMACs | top-1, mean ± std | seeds |",
             "|---|---|---:|---:|---:|---:|---|"]  # fmt: skip
    for row in rows:
        seeds = ", ".join(f"{top1:.1%}" for top1 in row["seeds"])
        lines.append(
            f"| {row['training']} | {WAYS[row['way']]} | {row['tokens']} | {row['grid']} | "
            f"{row['gmacs']:.3g} | {row['mean']:.1%} ± {row['std']:.1%} | {seeds} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/study")
    parser.add_argument("--output", default="docs/study")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--videos", type=int, default=256, help="held-out ones a measurement")
    parser.add_argument("--data-dir", default=None)
    options = parser.parse_args()
    points = {
        (recipe, int(seed)): measured(options, recipe, int(seed))
        for seed in options.seeds.split(",")
        for recipe in RECIPES
    }
    rows = list(rows_of(points))
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "steps": options.steps,
        "videos": options.videos,
        "machine": this_machine(),
        "rows": rows,
    }
    (output / "flux_versus_fixed.json").write_text(json.dumps(record, indent=2) + "\n")
    (output / "flux_versus_fixed.md").write_text(table_of(rows))
    (output / "flux_versus_fixed.svg").write_bytes(svg(figure_of(rows)))
    print(table_of(rows))


if __name__ == "__main__":
    main()
