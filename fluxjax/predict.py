"""Classes of videos: python -m fluxjax.predict --checkpoint runs/mine clip.mp4 other.mp4

Prints the most probable classes of each video; of a folder, those of the videos in it. A file that
cannot be read is named, the others are done, and the exit code is 1.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data_pipelines.clips.views import eval_views
from data_pipelines.demo.encode import encode_h264
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.video import open_video
from data_pipelines.sources.records import Record
from data_pipelines.sources.remote import check_schemes
from data_pipelines.sources.text_files import lines_of
from fluxjax.checkpoints.paths import path_argument
from fluxjax.predictor import (
    Prediction,
    Predictor,
    choose_setting,
)
from fluxjax.serving.checkpoint import Checkpoint, open_checkpoint
from fluxjax.serving.command import (
    add_sampling_option,
    add_view_options,
    check_positive,
    command_parser,
    run_command,
)
from fluxjax.serving.drawing import lit
from fluxjax.serving.video_files import file_record, listed
from fluxjax.serving.windows import Window, plot_scores, windows

DRAWN_PIXELS = 448  # side of the drawn video
DRAWN_SECONDS = 0.5  # that each sampled frame is shown
DRAWN_FPS = 10


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = command_parser("fluxjax.predict", __doc__)
    add_view_options(options, default=None)
    add_sampling_option(options)
    add = options.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="files, folders of videos, gs:// addresses")
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
    add("--batch-size", type=int, help="videos run at once; default: as many as make 8 views")
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


def spans_of(options: argparse.Namespace, record: Record) -> Sequence[Window | None]:
    """The parts of a video that are predicted; None is all of it.

    Raises:
      VideoError: if the video cannot be read, or ends before --start.
    """
    if options.window is None and options.start is None and options.end is None:
        return [None]
    with open_video(record.source, name=record.name) as video:
        duration = video.duration
    start, end = options.start or 0.0, min(options.end or duration, duration)
    if start >= end:
        raise VideoError(record.name, f"--start={start:g} s is not before its end, {end:.2f} s")
    if options.window is None:
        return [Window(start, end)]
    return windows(start, end, options.window, options.stride or options.window)


def records_of(options: argparse.Namespace, paths: Iterable[str]) -> Iterator[Record | VideoError]:
    """A record for each part of each video, or why there is none."""
    for path in paths:
        record = file_record(path)
        if isinstance(record, VideoError):
            yield record
            continue
        try:
            for span in spans_of(options, record):
                start, end = span or (None, None)
                yield dataclasses.replace(record, start=start, end=end)
        except VideoError as error:
            yield error


def result(prediction: Prediction, span: Window | None, predictor: Predictor, top: int) -> dict:
    """The JSON object of one video, or of one span of it."""
    if prediction.error is not None:
        return {"video": prediction.name, "error": prediction.error.reason}
    setting = predictor.setting
    named = [
        {"class": number, "label": label, "probability": round(probability, 6)}
        for number, label, probability in prediction.top(top)
    ]
    return {
        "video": prediction.name,
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


def draw(record: Record, target: str, predictor: Predictor) -> None:
    """Writes the sampled frames with the kept tokens lit, each for half a second.

    Raises:
      VideoError: if the video cannot be read.
    """
    grid, sampling = predictor.setting.grid, predictor.sampling
    places = predictor.checkpoint.places
    frames = eval_views(record, grid, sampling, pixels=DRAWN_PIXELS, places=places)[0]
    shown = np.repeat(
        lit(frames, predictor.groups(record)), round(DRAWN_SECONDS * DRAWN_FPS), axis=0
    )
    pathlib.Path(target).write_bytes(encode_h264(shown, fps=DRAWN_FPS, crf=18))


def check(options: argparse.Namespace, videos: Sequence[str]) -> None:
    """Refuses options that cannot be served, before anything is loaded.

    Raises:
      ValueError: naming the option.
    """
    check_positive(options, "clips", "crops", "top", "batch_size")
    check_schemes(videos)
    for name in ("start", "end", "window", "stride"):
        value = getattr(options, name)
        if value is not None and not (value > 0 or (name == "start" and value == 0)):
            raise ValueError(f"--{name}={value:g} must be positive seconds")
    if (options.stride or options.plot) and options.window is None:
        raise ValueError("--stride and --plot are of windows: give --window SECONDS")
    if options.plot and (len(videos) > 1 or not options.plot.endswith(".png")):
        raise ValueError(f"--plot={options.plot} must end in .png and is for one video")
    if options.draw and options.window is not None:
        raise ValueError("--draw shows one clip; drop --window, or choose a span by --start, --end")
    if options.draw and len(videos) > 1:
        raise ValueError(f"--draw is for one video, {len(videos)} are given")
    if options.draw and not options.draw.endswith(".mp4"):
        raise ValueError(f"--draw={options.draw} must end in .mp4")
    if options.embed and not options.embed.endswith(".npy"):
        raise ValueError(f"--embed={options.embed} must end in .npy")


def run(options: argparse.Namespace) -> int:
    """Predicts as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    videos = listed(options.videos)
    check(options, videos)
    predictor = make_predictor(options)
    views = f"{predictor.clips} x {predictor.crops} views"
    print(f"{predictor.setting}, {views}, frames {predictor.sampling}", file=sys.stderr)
    records, met, rows, scores = [], itertools.tee(records_of(options, videos)), [], []
    for record, prediction in zip(met[0], predictor.stream(met[1]), strict=True):
        span = _span(record)
        show(result(prediction, span, predictor, options.top), options.json)
        rows.append(prediction.features)
        if prediction.error is None:
            records.append(record)
            scores.append(prediction.probabilities)
    failed = len(records) < len(rows)
    if options.embed:
        np.save(options.embed, _feature_rows(rows))
    if options.plot and records:
        spans = [_span(record) for record in records]
        plot_scores(options.plot, spans, np.stack(scores), predictor.labels)
    if options.draw and not failed:
        draw(records[0], options.draw, predictor)
    return int(failed)


def make_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options ask for.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    checkpoint = open_checkpoint(options.checkpoint)
    setting = choose_setting(
        checkpoint,
        options.budget,
        options.limit_ms,
        options.grid,
        options.report,
        options.within_noise,
    )
    if options.budget and options.budget > setting.budget and options.limit_ms is None:
        print(f"--budget {options.budget} is more than the {setting.budget} tokens of "
              f"{setting.grid}: all are kept", file=sys.stderr)  # fmt: skip
    return Predictor(
        checkpoint,
        setting,
        sampling=options.sampling,
        clips=options.clips,
        crops=options.crops,
        labels=read_labels(options, checkpoint),
        batch_size=options.batch_size,
    )


def _span(record: Record | VideoError) -> Window | None:
    if isinstance(record, VideoError) or record.start is None:
        return None
    return Window(record.start, record.end)


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
