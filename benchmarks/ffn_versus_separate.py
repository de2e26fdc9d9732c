r"""One frame flexible network against separately trained ones: same width, corpus, seeds and steps.

    python -m benchmarks.ffn_versus_separate --work runs/ffn_study -- \
        "--config.data.train_split=train[:256]"

"ffn" is configs/ffn_demo.py, "st2", "st4" and "st8" its variants, plain networks at one frame
number. Each is trained once a seed and evaluated at 2 to 10 frames. "separate" takes at every
number of frames the network that was trained nearest, three networks against one; the rows of st8
show Temporal Frequency Deviation. What is there is not run again. Writes ffn_versus_separate.json
and .svg into --output, and prints the table.
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

TRAININGS = ("ffn", "st2", "st4", "st8")
TRAINED = (2, 4, 8)
# name -> label, colour, marker, horizontal place beside the number of frames
SHOWN = {
    "ffn": ("one frame flexible network", "#D55E00", "o", -0.06),
    "separate": ("three networks, each at its own number", "#0072B2", "s", 0.0),
    "st8": ("one network trained at 8 frames", "#009E73", "^", 0.06),
}

# Frames of a clip -> held-out top-1.
Scores = Mapping[int, float]


def measured(options: argparse.Namespace, training: str, seed: int) -> Scores:
    """Trains and evaluates one network, or reads what an earlier call left.

    Raises:
      CalledProcessError: if the run fails.
    """
    run = pathlib.Path(options.work) / f"{training}_{seed}"
    if not (run / "evaluation.json").is_file():
        variant = "" if training == "ffn" else f":{training}"
        command = [
            sys.executable, "-m", "fluxjax.main", f"--config=configs/ffn_demo.py{variant}",
            f"--workdir={run}", f"--config.seed={seed}", *options.config,
        ]  # fmt: skip
        subprocess.run(command, check=True)
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    return {int(row["grid"].partition("x")[0]): row["top1"] for row in rows}


def nearest(frames: int) -> int:
    """The trained number of frames that is nearest, a tie the larger."""
    return min(TRAINED, key=lambda number: (abs(number - frames), -number))


def series(scores: Mapping[str, Sequence[Scores]]) -> dict[str, dict[int, list[float]]]:
    """Name -> frames -> top-1 of every seed, with "separate" made of the three plain networks."""
    frames = sorted(scores["ffn"][0])
    found = {name: {n: [one[n] for one in seeds] for n in frames}
             for name, seeds in scores.items()}  # fmt: skip
    separate = {n: found[f"st{nearest(n)}"][n] for n in frames}
    return {"ffn": found["ffn"], "separate": separate} | found


def table_of(rows: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Mean top-1 and standard deviation over the seeds, a column a number of frames."""
    frames = list(rows["ffn"])
    body = [[name, *(_spread(row[number]) for number in frames)] for name, row in rows.items()]
    return markdown_table(["training", *(f"{number} frames" for number in frames)], body) + "\n"


def _spread(top1: Sequence[float]) -> str:
    deviation = statistics.stdev(top1) if len(top1) > 1 else 0.0
    return f"{statistics.mean(top1):.1%} ± {deviation:.1%}"


def figure_of(rows: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Mean top-1 with the seeds' range against frames."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, (label, colour, marker, place) in SHOWN.items():
        frames = list(rows[name])
        mean = [100 * statistics.mean(rows[name][n]) for n in frames]
        low = [m - 100 * min(rows[name][n]) for m, n in zip(mean, frames, strict=True)]
        high = [100 * max(rows[name][n]) - m for m, n in zip(mean, frames, strict=True)]
        axes.errorbar([n + place for n in frames], mean, yerr=(low, high), label=label,
                      color=colour, marker=marker, capsize=2, markersize=5)  # fmt: skip
    axes.set_xlabel("frames of a clip")
    axes.set_ylabel("held-out top-1, %; bars: all seeds")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Trains, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/ffn_study")
    parser.add_argument("--output", default="docs/study")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("config", nargs="*", help="options of every run, after --, such as "
                        "--config.total_steps=200")  # fmt: skip
    options = parser.parse_args()
    scores: dict[str, list[Scores]] = {training: [] for training in TRAININGS}
    for seed in options.seeds.split(","):
        for training in TRAININGS:
            scores[training].append(measured(options, training, int(seed)))
    rows = series(scores)
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    record = {"seeds": options.seeds, "config": options.config, "machine": this_machine(),
              "top1": rows}  # fmt: skip
    (output / "ffn_versus_separate.json").write_text(json.dumps(record, indent=2) + "\n")
    (output / "ffn_versus_separate.svg").write_bytes(svg(figure_of(rows)))
    print(table_of(rows))


if __name__ == "__main__":
    main()
