"""Fine-tuning from Flux pre-training against the same from random weights, on the demo corpus.

    python -m benchmarks.pretrained_versus_random --work runs/flux_umt_study

The runs are those of configs/flux_umt_demo.py, one by one: a teacher once, a student of it for each
seed, and from this student, and from random weights, the same fine-tuning with the same clips in
the same order. What is there is not run again. Writes pretrained_versus_random.json and .svg into
--output, and prints the table.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from fluxjax.budgets.figures import svg
from fluxjax.evaluation.machine import this_machine
from fluxjax.evaluation.tables import markdown_table

CONFIG = "configs/flux_umt_demo.py"
# name -> label, colour, marker
SHOWN = {
    "pretrained": ("from Flux pre-training", "#D55E00", "o"),
    "random": ("from random weights", "#0072B2", "s"),
}

# Tokens of a clip -> held-out top-1.
Scores = Mapping[int, float]


def trained(run: pathlib.Path, variant: str, *given: str) -> pathlib.Path:
    """The run's folder; the run itself, where it is not there.

    Raises:
      CalledProcessError: if the run fails.
    """
    if not (run / "model").is_dir():
        command = [sys.executable, "-m", "fluxjax.main", f"--config={CONFIG}:{variant}",
                   f"--workdir={run}", *given]  # fmt: skip
        subprocess.run(command, check=True)
    return run


def measured(run: pathlib.Path) -> Scores:
    """Top-1 of a run's last evaluation at each budget."""
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    return {int(row["budget"]): row["top1"] for row in rows}


def study(options: argparse.Namespace) -> dict[str, list[Scores]]:
    """The scores of every seed, by where fine-tuning started from."""
    work, scores = pathlib.Path(options.work), {name: [] for name in SHOWN}
    data = [f"--config.data.dir={options.data_dir}"] if options.data_dir else []
    teacher = trained(work / "teacher", "teacher", *data, *options.teacher)
    for seed in options.seeds.split(","):
        common = [f"--config.seed={seed}", *data]
        named = f"--config.distill.teacher={teacher}"
        student = trained(work / f"student_{seed}", "student", named, *common, *options.student)
        starts = {"pretrained": [f"--config.init_from={student}"], "random": []}
        for name, start in starts.items():
            run = trained(work / f"{name}_{seed}", "scratch", *common, *start, *options.finetune)
            scores[name].append(measured(run))
    return scores


def table_of(scores: Mapping[str, Sequence[Scores]]) -> str:
    """Mean top-1, its standard deviation, and every seed's, a column a budget."""
    budgets = sorted(scores["random"][0], reverse=True)
    body = [[SHOWN[name][0], *(_spread([one[budget] for one in seeds]) for budget in budgets)]
            for name, seeds in scores.items()]  # fmt: skip
    heads = ["fine-tuned", *(f"{budget} tokens" for budget in budgets)]
    return markdown_table(heads, body) + "\n"


def _spread(top1: Sequence[float]) -> str:
    deviation = statistics.stdev(top1) if len(top1) > 1 else 0.0
    each = ", ".join(f"{100 * x:.1f}" for x in top1)
    return f"{statistics.mean(top1):.1%} ± {deviation:.1%} ({each})"


def figure_of(scores: Mapping[str, Sequence[Scores]]) -> Figure:
    """Mean top-1 with the seeds' range against tokens."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, (label, colour, marker) in SHOWN.items():
        seeds = scores[name]
        budgets = sorted(seeds[0])
        mean = [100 * statistics.mean(one[n] for one in seeds) for n in budgets]
        low = [m - 100 * min(one[n] for one in seeds) for m, n in zip(mean, budgets, strict=True)]
        high = [100 * max(one[n] for one in seeds) - m for m, n in zip(mean, budgets, strict=True)]
        axes.errorbar(budgets, mean, yerr=(low, high), label=label, color=colour, marker=marker,
                      capsize=2, markersize=5)  # fmt: skip
    axes.set_xlabel("tokens of a clip")
    axes.set_ylabel("held-out top-1, %; bars: all seeds")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/flux_umt_study")
    parser.add_argument("--output", default="docs/study")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--data-dir", default=None, help="cache of the demo corpus")
    for run in ("teacher", "student", "finetune"):
        parser.add_argument(f"--{run}", action="append", default=[], metavar="OPTION",
                            help=f"of the {run} runs, such as --{run}=--config.total_steps=100; "
                            "may be repeated")  # fmt: skip
    options = parser.parse_args()
    scores = study(options)
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    given = {name: getattr(options, name) for name in ("seeds", "teacher", "student", "finetune")}
    record = given | {"machine": this_machine(), "top1": scores}
    (output / "pretrained_versus_random.json").write_text(json.dumps(record, indent=2) + "\n")
    (output / "pretrained_versus_random.svg").write_bytes(svg(figure_of(scores)))
    print(table_of(scores))


if __name__ == "__main__":
    main()
