"""Fine-tuning after pre-training against fine-tuning from random weights, at equal steps.

    python -m benchmarks.videomae_pretraining --work runs/videomae_study

Runs configs/videomae_demo.py and its variant scratch once a seed, which differ in nothing but the
weights that they start from. What is there is not run again. Writes videomae_pretraining.json
and _reconstructions.png, of the first seed, into --output, and prints the table.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from fluxjax.evaluation.machine import this_machine
from fluxjax.evaluation.tables import markdown_table

VARIANTS = {"pre-trained": "", "random": ":scratch"}
NAME = "videomae_pretraining"


def measured(options: argparse.Namespace, start: str, seed: int) -> float:
    """Held-out top-1 of one run, which an earlier call may have left.

    Raises:
      CalledProcessError: if the run fails.
    """
    run = folder(options, start, seed)
    if not (run / "evaluation.json").is_file():
        command = [
            sys.executable, "-m", "fluxjax.main",
            f"--config=configs/videomae_demo.py{VARIANTS[start]}", f"--workdir={run}",
            f"--config.seed={seed}", *options.config,
        ]  # fmt: skip
        subprocess.run(command, check=True)
    (row,) = json.loads((run / "evaluation.json").read_text())["rows"]
    return row["top1"]


def folder(options: argparse.Namespace, start: str, seed: int) -> pathlib.Path:
    """Where a run is kept."""
    return pathlib.Path(options.work) / f"{start}_{seed}"


def table_of(top1: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> str:
    """A row a start, a column a seed, mean and standard deviation; and the differences."""
    better = [a - b for a, b in zip(top1["pre-trained"], top1["random"], strict=True)]
    rows = {**top1, "difference": better}
    body = [[name, *(f"{x:.1%}" for x in row), spread(row)] for name, row in rows.items()]
    head = ["weights at the start", *(f"seed {seed}" for seed in seeds), "mean"]
    return markdown_table(head, body) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1%} ± {deviation:.1%}"


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/videomae_study")
    parser.add_argument("--output", default="docs/study")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("config", nargs="*", help="options of every run, after --, such as "
                        "--config.total_steps=200")  # fmt: skip
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    top1: dict[str, list[float]] = {start: [] for start in VARIANTS}
    for seed in seeds:
        for start, found in top1.items():
            found.append(measured(options, start, seed))
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    record = {"seeds": seeds, "config": options.config, "machine": this_machine(), "top1": top1}
    (output / f"{NAME}.json").write_text(json.dumps(record, indent=2) + "\n")
    picture = folder(options, "pre-trained", seeds[0]) / "pretrain" / "reconstructions.png"
    shutil.copyfile(picture, output / f"{NAME}_reconstructions.png")
    print(table_of(top1, seeds))


if __name__ == "__main__":
    main()
