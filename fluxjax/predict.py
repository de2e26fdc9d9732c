"""Classes of videos: python -m fluxjax.predict --checkpoint runs/mine clip.mp4 other.mp4

Prints the most probable classes of each video. A file that cannot be read is named, the others are
done, and the exit code is 1.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.clips.views import eval_views
from data_pipelines.demo.encode import encode_h264
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.video import open_video
from data_pipelines.sources.records import Record
from data_pipelines.sources.remote import check_schemes, source_of
from data_pipelines.sources.text_files import lines_of
from fluxjax.budgets.planner import plan_aloud
from fluxjax.budgets.points import read_report
from fluxjax.checkpoints.paths import path_argument
from fluxjax.serving.checkpoint import Checkpoint, Prediction, Predictor, open_checkpoint
from fluxjax.serving.command import (
    add_sampling_option,
    add_view_options,
    check_positive,
    command_parser,
    run_command,
)
from fluxjax.serving.drawing import lit
from fluxjax.serving.settings import Setting, make_setting
from fluxjax.serving.windows import Window, plot_scores, windows
from fluxjax.tokens.grids import parse_grid

DRAWN_PIXELS = 448  # side of the drawn video
DRAWN_SECONDS = 0.5  # that each sampled frame is shown
DRAWN_FPS = 10


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.predict", __doc__)
    add_view_options(options, default=None)
    add_sampling_option(options)
    add = options.add_argument
    add("videos", nargs="+", metavar="VIDEO")
    add("--grid", help="FRAMESxPIXELS; default: the first that the run was evaluated on")
    add("--budget", type=int, help="tokens kept a view; default: the largest of the model")
    add("--limit-ms", type=float, help="the best setting of the report that takes no longer a view")
    add("--within-noise", action="store_true", help="of the report, the cheapest setting that is "
        "not significantly less accurate than the best")  # fmt: skip
    add(
        "--report",
        type=path_argument,
        help="budgets.json to choose from; default with --limit-ms: the run's own",
    )
    add(
        "--labels",
        metavar="FILE",
        type=path_argument,
        help="class names, one a line; default: the checkpoint's",
    )
    add("--top", type=int, default=5, help="classes named a video")
    add("--json", action="store_true", help="one JSON object a line")
    add("--embed", metavar="FILE", type=path_argument, help="also write the pooled features "
        "[videos, E] float32 as .npy; rows of NaN for unreadable videos")  # fmt: skip
    add("--start", type=float, help="seconds of the video to begin at; default: 0")
    add("--end", type=float, help="seconds of the video to end at; default: its end")
    add(
        "--window", type=float, metavar="SECONDS", help="a prediction for every window of the video"
    )
    add(
        "--stride", type=float, metavar="SECONDS", help="between windows' starts; default: --window"
    )
    add("--plot", metavar="FILE", type=path_argument, help="also write the scores of the windows "
        "over time as .png (one video)")  # fmt: skip
    add("--draw", metavar="FILE", type=path_argument, help="also write the clip as .mp4 with the "
        "kept tokens lit (one video, first view)")  # fmt: skip
    return options


def choose_setting(options: argparse.Namespace, checkpoint: Checkpoint) -> Setting:
    """The setting that --grid and --budget, or --limit-ms and --report ask for.

    Raises:
      ValueError, FileNotFoundError: naming the option and the remedy.
    """
    if options.limit_ms is None and options.report is None:
        if options.within_noise:
            raise ValueError("--within-noise chooses from a report: add --limit-ms or --report")
        grid = parse_grid(options.grid) if options.grid else checkpoint.default_grid()
        budget = options.budget
        if budget is None:
            budget = getattr(checkpoint.model, "budgets", (None,))[0]
        setting = make_setting(checkpoint.model, grid, budget)
        if options.budget and options.budget > setting.budget:
            print(f"--budget {budget} is more than the {setting.budget} tokens of {grid}: all are "
                  "kept", file=sys.stderr)  # fmt: skip
        return setting
    if options.grid:
        raise ValueError("--grid is chosen from the report with --limit-ms or --report; drop it")
    path = options.report
    if path is None:
        if checkpoint.run is None:
            raise ValueError("--limit-ms needs --report FILE: the checkpoint lies in no run")
        path = checkpoint.run / "budgets.json"
    limits = {"tokens": options.budget, "ms": options.limit_ms}
    point, line = plan_aloud(read_report(path), **limits, within_noise=options.within_noise)
    print(line, file=sys.stderr)
    return point.setting


def read_labels(options: argparse.Namespace, checkpoint: Checkpoint) -> tuple[str, ...] | None:
    """Names of the classes from --labels or the checkpoint.

    Raises:
      ValueError: if their number is not that of the classes.
    """
    if options.labels is None:
        return checkpoint.labels
    lines = lines_of(pathlib.Path(options.labels).read_text(encoding="utf-8"))
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != checkpoint.model.num_classes:
        raise ValueError(
            f"--labels={options.labels} has {len(names)} names, the model "
            f"{checkpoint.model.num_classes} classes"
        )
    return names


def spans_of(options: argparse.Namespace, source: Any, path: str) -> Sequence[Window | None]:
    """The parts of a video that are predicted; None is all of it. `path` is what errors call it.

    Raises:
      VideoError: if the video cannot be read, or ends before --start.
    """
    if options.window is None and options.start is None and options.end is None:
        return [None]
    with open_video(source, name=path) as video:
        duration = video.duration
    start, end = options.start or 0.0, min(options.end or duration, duration)
    if start >= end:
        raise VideoError(path, f"--start={start:g} s is not before its end, {end:.2f} s")
    if options.window is None:
        return [Window(start, end)]
    return windows(start, end, options.window, options.stride or options.window)


def predictions(
    options: argparse.Namespace, predictor: Predictor, setting: Setting, sampling: str
) -> Iterator[tuple[str, Window | None, Prediction | VideoError]]:
    """For each part of each video what the model says, or why it could not be read."""
    for path in options.videos:
        try:
            source = source_of(path)
            for span in spans_of(options, source, path):
                record = Record(source, -1, path, *(span or ()))
                views = eval_views(record, setting.grid, sampling, options.clips, options.crops)
                yield path, span, predictor.predict(views, setting)
        except VideoError as error:
            yield path, None, error


def result(
    prediction: Prediction | VideoError,
    path: str,
    span: Window | None,
    setting: Setting,
    labels: Sequence[str] | None,
    top: int,
) -> dict:
    """The JSON object of one video, or of one span of it."""
    if isinstance(prediction, VideoError):
        return {"video": path, "error": prediction.reason}
    best = np.argsort(-prediction.probabilities, kind="stable")[:top].tolist()
    named = [
        {
            "class": index,
            "label": None if labels is None else labels[index],
            "probability": round(float(prediction.probabilities[index]), 6),
        }
        for index in best
    ]
    return {
        "video": path,
        **({} if span is None else {"start": round(span.start, 3), "end": round(span.end, 3)}),
        "grid": str(setting.grid),
        "budget": setting.budget,
        "method": setting.method,
        "head": setting.head,
        "predictions": named,
    }


def show(line: dict, as_json: bool) -> None:
    """Prints one result; errors go to standard error, and with --json to the lines as well."""
    if "error" in line:
        print(f"error: {line['video']}: {line['error']}", file=sys.stderr)
    if as_json:
        print(json.dumps(line), flush=True)
    elif "error" not in line:
        span = f"  {line['start']:.2f} to {line['end']:.2f} s" if "start" in line else ""
        print(f"{line['video']}{span}")
        for entry in line["predictions"]:
            name = entry["label"] if entry["label"] is not None else f"class {entry['class']}"
            print(f"  {entry['probability']:6.1%}  {name}", flush=True)


def draw(
    path: str,
    span: Window | None,
    target: str,
    predictor: Predictor,
    setting: Setting,
    sampling: str,
) -> None:
    """Writes the sampled frames with the kept tokens lit, each for half a second.

    Raises:
      VideoError: if the video cannot be read.
    """
    record = Record(source_of(path), -1, path, *(span or ()))
    groups = predictor.groups(eval_views(record, setting.grid, sampling)[0], setting)
    frames = lit(eval_views(record, setting.grid, sampling, pixels=DRAWN_PIXELS)[0], groups)
    shown = np.repeat(frames, round(DRAWN_SECONDS * DRAWN_FPS), axis=0)
    pathlib.Path(target).write_bytes(encode_h264(shown, fps=DRAWN_FPS, crf=18))


def check(options: argparse.Namespace) -> None:
    """Refuses options that cannot be served, before anything is loaded.

    Raises:
      ValueError: naming the option.
    """
    check_positive(options, "clips", "crops", "top")
    check_schemes(options.videos)
    for name in ("start", "end", "window", "stride"):
        value = getattr(options, name)
        if value is not None and not (value > 0 or (name == "start" and value == 0)):
            raise ValueError(f"--{name}={value:g} must be positive seconds")
    if (options.stride or options.plot) and options.window is None:
        raise ValueError("--stride and --plot are of windows: give --window SECONDS")
    if options.plot and (len(options.videos) > 1 or not options.plot.endswith(".png")):
        raise ValueError(f"--plot={options.plot} must end in .png and is for one video")
    if options.draw and options.window is not None:
        raise ValueError("--draw shows one clip; drop --window, or choose a span by --start, --end")
    if options.draw and len(options.videos) > 1:
        raise ValueError(f"--draw is for one video, {len(options.videos)} are given")
    if options.draw and not options.draw.endswith(".mp4"):
        raise ValueError(f"--draw={options.draw} must end in .mp4")
    if options.embed and not options.embed.endswith(".npy"):
        raise ValueError(f"--embed={options.embed} must end in .npy")


def run(options: argparse.Namespace) -> int:
    """Predicts as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    check(options)
    checkpoint = open_checkpoint(options.checkpoint)
    setting = choose_setting(options, checkpoint)
    labels, sampling = read_labels(options, checkpoint), checkpoint.sampling(options.sampling)
    options.clips, options.crops = checkpoint.views(options.clips, options.crops)
    views = f"{options.clips} x {options.crops} views"
    print(f"{setting}, {views}, frames {sampling}", file=sys.stderr)
    predictor = Predictor(checkpoint.model, checkpoint.variables)
    rows, spans, scores, failed = [], [], [], False
    for path, span, prediction in predictions(options, predictor, setting, sampling):
        show(result(prediction, path, span, setting, labels, options.top), options.json)
        if isinstance(prediction, VideoError):
            rows.append(None)
            failed = True
            continue
        rows.append(prediction.features)
        spans.append(span)
        scores.append(prediction.probabilities)
    if options.embed:
        np.save(options.embed, _feature_rows(rows))
    if options.plot and spans:
        plot_scores(options.plot, spans, np.stack(scores), labels)
    if options.draw and not failed:
        draw(options.videos[0], spans[0], options.draw, predictor, setting, sampling)
    return int(failed)


def _feature_rows(rows: Sequence[np.ndarray | None]) -> np.ndarray:
    """[videos, E] float32, NaN where there are no features."""
    width = next((len(row) for row in rows if row is not None), 0)
    empty = np.full(width, np.nan, np.float32)
    return np.stack([empty if row is None else row for row in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, 1 where a video or an option failed."""
    return run_command(run, parser().parse_intermixed_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
