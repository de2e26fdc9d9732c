"""One item of a batch as a pure function of its position: which video, frames, grid and crop.

Nothing here keeps an iterator's state. Training position p is video p of an endless reshuffled
sequence; every draw is keyed by (seed, epoch, example), the grid of a batch by (seed, step).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from data_pipelines.clips import seeding
from data_pipelines.clips.augment import RandAugment
from data_pipelines.clips.crops import random_resized_crop, view_crop
from data_pipelines.clips.sampling import draw_grid, frame_sampler
from data_pipelines.clips.seeding import Stream
from data_pipelines.reading.decode import Video, open_video
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.time_limit import limited
from data_pipelines.sources.catalog import Catalog, Record
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.grids import PATCH, Grid, clip_patches

MAX_REPLACEMENTS = 10  # videos tried for one place of a batch

Item = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainClips:
    """Training clips by position.

    Attributes:
      catalog: what to read.
      grids: sampling grids to draw from, uniformly.
      seed: of every draw.
      videos_per_batch: over all hosts; one grid is drawn for each batch.
      slots: tokens a clip is padded to.
      bad: counts unreadable videos, which are replaced by others.
      patch: pixels a side.
      sampling: name of the frame sampler, see `sampling.frame_sampler`.
      crop_scale: range of the crop's share of the picture.
      crop_ratio: range of the crop's aspect.
      flip: half of the clips are mirrored.
      rand_augment: operations drawn for every clip, after cropping and mirroring; None for none.
      repeats: clips cut from one video, same frames, with fresh crops.
      per_clip: draw a grid for every clip, not for every batch.
      seconds: time limit of reading one video; None for none.
    """

    catalog: Catalog
    grids: Sequence[Grid]
    seed: int
    videos_per_batch: int
    slots: int
    bad: BadVideos
    patch: int = PATCH
    sampling: str = "sparse"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    rand_augment: RandAugment | None = None
    repeats: int = 1
    per_clip: bool = False
    seconds: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "_shuffle", seeding.Shuffle(self.seed, len(self.catalog)))

    def item(self, position: int) -> Item:
        """The clips of one video.

        Args:
          position: global position, step * videos_per_batch + place in the batch.

        Returns:
          patches [repeats, slots, patch*patch*3] uint8, grid [repeats, 3] int32,
          label [repeats] int32, example [repeats] int64 (index in the catalog).

        Raises:
          VideoError: if no readable video is found, or too many are bad.
        """
        epoch, example = self._shuffle.at(position)
        step = position // self.videos_per_batch
        for attempt in range(MAX_REPLACEMENTS):
            grid_key = (epoch, example) if self.per_clip else (step,)
            grid = draw_grid(self.grids, seeding.rng(self.seed, *grid_key, Stream.GRID))
            try:
                record = fetch(self.catalog, example, self.bad)
                key = (self.seed, epoch, example)
                clips = limited(
                    functools.partial(self._clips, record, grid, key), self.seconds, record.name
                )
            except VideoError as error:
                self.bad.note(error)
                last = error.name
                replacement = seeding.rng(self.seed, epoch, example, attempt, Stream.REPLACEMENT)
                example = int(replacement.integers(len(self.catalog)))
                continue
            self.bad.note(None)
            return _stack(clips, grid, record.label, example, self.slots, self.patch)
        raise VideoError(
            last,
            f"and {MAX_REPLACEMENTS - 1} videos drawn in its place could not be read",
        )

    def _clips(self, record: Record, grid: Grid, key: tuple[int, ...]) -> list[np.ndarray]:
        train_frames, _ = frame_sampler(self.sampling)
        streams = (Stream.CROP, Stream.FLIP, Stream.AUGMENT)
        crops, flips, augments = (seeding.rng(*key, stream) for stream in streams)
        with open_video(record.source, name=record.name, seconds=self.seconds) as video:
            first, last = frame_span(video, record)
            frames = first + train_frames(
                last - first, grid.frames, seeding.rng(*key, Stream.FRAMES)
            )
            clips = []
            for _ in range(self.repeats):
                box = random_resized_crop(
                    video.height, video.width, crops, self.crop_scale, self.crop_ratio
                )
                flip = self.flip and flips.random() < 0.5
                size = (grid.resolution, grid.resolution)
                clips.append(video.read(frames, box=box, size=size, flip=flip))
        if self.rand_augment is not None:
            clips = [self.rand_augment(clip, augments) for clip in clips]
        return clips


@dataclasses.dataclass(frozen=True)
class EvalClips:
    """Deterministic views of test videos: temporal clips x spatial crops on one grid.

    Attributes:
      catalog: what to read, in order.
      grid: of every clip.
      slots: tokens a clip is padded to.
      bad: counts unreadable videos.
      patch: pixels a side.
      sampling: name of the frame sampler, see `sampling.frame_sampler`.
      clips: temporal views.
      crops: spatial views.
      seconds: time limit of reading one video; None for none.
    """

    catalog: Catalog
    grid: Grid
    slots: int
    bad: BadVideos
    patch: int = PATCH
    sampling: str = "sparse"
    clips: int = 1
    crops: int = 1
    seconds: float | None = None

    def item(self, index: int) -> Item:
        """All views of video `index`.

        An index beyond the catalog gives padding of weight 0, so that every host can run the same
        number of full batches. An unreadable video keeps its weight, with a label that no
        prediction equals: it counts as wrong and not as absent.

        Returns:
          patches [views, slots, patch*patch*3] uint8, grid [views, 3] int32, label int32 scalar,
          weight float32 scalar, example int64 scalar.
        """
        views = self.clips * self.crops
        real = index < len(self.catalog)
        label, clips = -1, []
        if real:
            try:
                record = fetch(self.catalog, index, self.bad)
                read = functools.partial(
                    eval_views, record, self.grid, self.sampling, self.clips, self.crops,
                    seconds=self.seconds,
                )  # fmt: skip
                clips = limited(read, self.seconds, record.name)
                label = record.label
                self.bad.note(None)
            except VideoError as error:
                self.bad.note(error)
        if not clips:
            side = self.grid.resolution
            clips = [np.zeros((self.grid.frames, side, side, 3), np.uint8)] * views
        item = _stack(clips, self.grid, label, index, self.slots, self.patch)
        return {
            "patches": item["patches"],
            "grid": item["grid"],
            "label": np.int32(label),
            "weight": np.float32(real),
            "example": np.int64(index),
        }


def eval_views(
    record: Record,
    grid: Grid,
    sampling: str = "sparse",
    clips: int = 1,
    crops: int = 1,
    pixels: int | None = None,
    seconds: float | None = None,
) -> list[np.ndarray]:
    """The deterministic views of one video: clip 0's crops, clip 1's crops, ..

    Args:
      record: what to read.
      grid: frames and resolution of a view.
      sampling: name of the frame sampler.
      clips: temporal views.
      crops: spatial views.
      pixels: side to scale the same crops to, for showing them; None: the grid's resolution.
      seconds: time limit, see `open_video`; None: no limit.

    Returns:
      clips * crops arrays uint8 [T, side, side, 3], RGB.

    Raises:
      VideoError: if the video cannot be read.
    """
    _, eval_frames = frame_sampler(sampling)
    side = pixels or grid.resolution
    views = []
    with open_video(record.source, name=record.name, seconds=seconds) as video:
        first, last = frame_span(video, record)
        for clip in range(clips):
            frames = first + eval_frames(last - first, grid.frames, clip, clips)
            for crop in range(crops):
                box = view_crop(video.height, video.width, crop, crops, grid.resolution)
                views.append(video.read(frames, box=box, size=(side, side)))
    return views


def fetch(catalog: Catalog, index: int, bad: BadVideos) -> Record:
    """Record `index` of a catalog, if its video is worth a try.

    Raises:
      VideoError: if the video is known to be bad, or its bytes cannot be had.
    """
    try:
        record = catalog[index]
    except OSError as error:  # a remote file that is not there
        raise VideoError(f"video {index}", str(error)) from error
    bad.check(record.name)
    return record


def frame_span(video: Video, record: Record) -> tuple[int, int]:
    """(first, last + 1) frame of the record's part of the video.

    Raises:
      VideoError: if the part holds no frame.
    """
    if record.start is None and record.end is None:
        return 0, video.num_frames
    first, last = video.span(record.start, record.end)
    if last <= first:
        raise VideoError(
            record.name,
            f"no frame between {record.start} s and {record.end} s; the video lasts "
            f"{video.duration:.2f} s",
        )
    return first, last


def _stack(
    clips: Sequence[np.ndarray], grid: Grid, label: int, example: int, slots: int, patch: int
) -> Item:
    patches = np.zeros((len(clips), slots, patch * patch * 3), np.uint8)
    for row, clip in zip(patches, clips, strict=True):
        cut = clip_patches(clip, patch)
        row[: len(cut)] = cut
    return {
        "patches": patches,
        "grid": np.tile(np.int32(grid.shape(patch)), (len(clips), 1)),
        "label": np.full(len(clips), label, np.int32),
        "example": np.full(len(clips), example, np.int64),
    }
