"""A trained model that answers: classes and features of videos, in files or in memory."""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.clips.views import eval_views
from data_pipelines.reading.arrays import ArrayVideo
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import ChunkFolder, FrameFolder
from data_pipelines.sources.records import NO_LABEL, Record
from fluxjax.budgets.planner import plan_aloud
from fluxjax.budgets.points import read_report
from fluxjax.serving.checkpoint import Checkpoint, open_checkpoint
from fluxjax.serving.programs import Programs
from fluxjax.serving.settings import Setting, make_setting
from fluxjax.serving.video_files import file_record, is_folder_of_videos, list_videos
from fluxjax.tokens.grids import Grid, parse_grid

log = logging.getLogger(__name__)

CLIPS = 8  # in a batch, where its size is left open


class ClassScore(NamedTuple):
    """One class of a prediction; `label` is None where classes have no names."""

    number: int
    label: str | None
    probability: float


class Prediction(NamedTuple):
    """What the model says of one video, or why it could not be read.

    Attributes:
      name: of the video.
      probabilities: [K] float32, mean over the views; None with an error.
      features: [E] float32, pooled features, mean over the views; None with an error.
      labels: name of each class, or None.
      error: why the video could not be read, or None.
    """

    name: str
    probabilities: np.ndarray | None
    features: np.ndarray | None
    labels: tuple[str, ...] | None
    error: VideoError | None = None

    def top(self, k: int = 5) -> list[ClassScore]:
        """The k most probable classes, the best first.

        Raises:
          VideoError: if the video could not be read.
        """
        if self.error is not None:
            raise self.error
        best = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        names = self.labels or {}.fromkeys(range(len(self.probabilities)))
        return [ClassScore(i, names[i], float(self.probabilities[i])) for i in best]


class Predictor:
    """Runs a checkpoint on videos of any length and size, as its run evaluated it.

    Attributes:
      checkpoint: what is run.
      setting: grid, tokens kept, how they are chosen, and the head.
      sampling: name of the frame sampler.
      clips, crops: temporal and spatial views of a video.
      labels: name of each class, or None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        setting: Setting,
        *,
        sampling: str | None = None,
        clips: int | None = None,
        crops: int | None = None,
        labels: Sequence[str] | None = None,
        batch_size: int | None = None,
    ):
        """See `from_checkpoint`; nothing is compiled yet.

        Raises:
          ValueError: on an unknown sampler, a wrong number of labels or a number below 1.
        """
        for name, value in (("clips", clips), ("crops", crops), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        classes = checkpoint.model.num_classes
        if labels is not None and len(labels) != classes:
            raise ValueError(f"{len(labels)} labels are given, the model has {classes} classes")
        self.checkpoint, self.setting = checkpoint, setting
        self.sampling = checkpoint.sampling(sampling)
        self.clips, self.crops = checkpoint.views(clips, crops)
        self.labels = checkpoint.labels if labels is None else tuple(labels)
        self._batch_size = batch_size or max(CLIPS // (self.clips * self.crops), 1)
        self._programs = Programs(checkpoint.model, checkpoint.variables)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike,
        *,
        budget: int | None = None,
        limit_ms: float | None = None,
        grid: str | None = None,
        report: str | os.PathLike | None = None,
        within_noise: bool = False,
        **options: Any,
    ) -> "Predictor":
        """Opens a training run or an inference checkpoint.

        Args:
          path: of its folder.
          budget: tokens kept a view, at most; None: the largest that the model was trained for.
          limit_ms: the best measured setting that takes no longer a view.
          grid: FRAMESxPIXELS; None: the first that the run was evaluated on.
          report: budgets.json to choose from; None: with `limit_ms` the run's own.
          within_noise: of a report, the cheapest that is as accurate as the best within noise.
          **options: what else `__init__` takes; frames and views are those of the run's evaluation
            where nothing is said.

        Raises:
          FileNotFoundError, WeightsError, ValueError: naming what is wrong, and the remedy.
        """
        checkpoint = open_checkpoint(path)
        setting = choose_setting(checkpoint, budget, limit_ms, grid, report, within_noise)
        return cls(checkpoint, setting, **options)

    def predict(self, videos: Any, fps: float | None = None) -> Prediction | list[Prediction]:
        """What the model says of a video, or of each of several.

        Args:
          videos: the path of a video, or its frames: uint8 [T, H, W, 3] RGB of any length and size.
            A list of those, or a folder that holds videos: a list of predictions, and one that
            cannot be read has its `error`. A folder of frame images, or one that is called like a
            video (`name.mp4/`, of chunks), is one video.
          fps: frames a second of arrays, where frames are sampled by time.

        Raises:
          VideoError: if the one video cannot be read.
          TypeError, ValueError: on frames that are no uint8 video, or a folder without videos.
        """
        if isinstance(videos, list | tuple):
            return list(self.stream(self._record(video, fps, i) for i, video in enumerate(videos)))
        if isinstance(videos, str | os.PathLike) and is_folder_of_videos(videos):
            return self.predict(list_videos(videos))
        (prediction,) = self.stream([self._record(videos, fps)])
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def stream(self, records: Iterable[Record | VideoError]) -> Iterator[Prediction]:
        """A prediction for each record, in order, as batches are done; errors are passed on.

        A record that comes alone is run alone; all others in batches of one size, the last one
        padded, so that at most two programs are compiled.
        """
        records, size = iter(records), None
        while chunk := list(itertools.islice(records, self._batch_size)):
            size = size or (1 if len(chunk) == 1 else self._batch_size)
            read = [self._views(record) for record in chunk]
            good = [views for views in read if not isinstance(views, VideoError)]
            outputs = iter(())
            if good:
                batch = np.stack(good + good[-1:] * (size - len(good)))
                outputs = zip(*self._programs.predict(batch, self.setting), strict=True)
            for record, views in zip(chunk, read, strict=True):
                if isinstance(views, VideoError):
                    yield Prediction(views.name, None, None, self.labels, views)
                else:
                    yield Prediction(record.name, *next(outputs), self.labels)

    def groups(self, record: Record) -> np.ndarray:
        """What becomes of the tokens of a video's first view: see `settings.token_groups`.

        Raises:
          VideoError: if the video cannot be read.
        """
        places = self.checkpoint.places
        clip = eval_views(record, self.setting.grid, self.sampling, places=places)[0]
        return self._programs.groups(clip, self.setting)

    def _views(self, record: Record | VideoError) -> np.ndarray | VideoError:
        """[views, T, S, S, 3] uint8, or why there are none."""
        if isinstance(record, VideoError):
            return record
        grid = self.setting.grid
        try:
            return np.stack(
                eval_views(
                    record, grid, self.sampling, self.clips, self.crops,
                    places=self.checkpoint.places,
                )
            )  # fmt: skip
        except VideoError as error:
            return error

    def _record(self, video: Any, fps: float | None, number: int = 0) -> Record | VideoError:
        if isinstance(video, str | os.PathLike):
            return file_record(os.fspath(video))
        if isinstance(video, bytes | FrameFolder | ChunkFolder | ArrayVideo):
            return Record(video, NO_LABEL, f"video {number}")
        frames = _checked_frames(video)
        if fps is None and self.sampling.startswith(("time:", "fps:")):
            raise ValueError(f"frames are sampled by {self.sampling}: pass fps with an array")
        name = f"array {number}"
        return Record(ArrayVideo(frames, fps or 25.0, name), NO_LABEL, name)


def choose_setting(
    checkpoint: Checkpoint,
    budget: int | None = None,
    limit_ms: float | None = None,
    grid: str | None = None,
    report: str | os.PathLike | None = None,
    within_noise: bool = False,
) -> Setting:
    """The setting for a grid and a budget, or the best one of a report; see `from_checkpoint`.

    Raises:
      ValueError, FileNotFoundError: naming what is wrong, and the remedy.
    """
    if limit_ms is None and report is None:
        if within_noise:
            raise ValueError("within noise chooses from a report: give one, or a limit in ms")
        sampled: Grid = parse_grid(grid) if grid else checkpoint.default_grid()
        if budget is None:
            budget = getattr(checkpoint.model, "budgets", (None,))[0]
        return make_setting(checkpoint.model, sampled, budget)
    if grid:
        raise ValueError(f"grid {grid} is given, but a limit or a report chooses the grid: drop it")
    if report is None:
        report = checkpoint.measured / "budgets.json"
    limits = {"tokens": budget, "ms": limit_ms}
    point, line = plan_aloud(read_report(report), **limits, within_noise=within_noise)
    log.info("%s", line)
    return point.setting


def _checked_frames(video: Any) -> np.ndarray:
    """An array as uint8 [T, H, W, 3].

    Raises:
      TypeError, ValueError: naming dtype and shape, and the remedy.
    """
    if not hasattr(video, "shape"):
        raise TypeError(f"a video is a path or an array of frames, not {type(video).__name__}")
    frames = np.asarray(video)
    if frames.dtype != np.uint8:
        raise ValueError(
            f"frames must be uint8 of 0 to 255, these are {frames.dtype}: convert them, e.g. "
            "np.rint(255 * frames).astype(np.uint8) where they lie in 0 to 1"
        )
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"a video must be [T, H, W, 3], not {list(frames.shape)}; several videos are a list"
        )
    return frames
