"""Training clips of one video: each its own frames, all under one joint augmentation."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data_pipelines.clips import seeding
from data_pipelines.clips.seeding import Stream
from data_pipelines.clips.training_crops import training_crop
from data_pipelines.clips.views import frame_span, span_sampler
from data_pipelines.reading.frame_cache import FrameCache
from data_pipelines.reading.geometry import Box
from data_pipelines.reading.video import Video, open_video
from data_pipelines.sources.records import Record
from fluxjax.tokens.examples import ClipSpec
from fluxjax.tokens.grids import Grid


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to the clips of a video on the host.

    Attributes:
      crop_scale: range of the share of the picture of crop random_resized.
      crop_ratio: range of its aspect, width / height.
      flip: half of the clips are mirrored,
      unflipped: but those of these data sets, see `Record.origin`.
      rand_augment: (clip [T, H, W, 3] uint8, generator) -> clip, after cropping and mirroring;
        None for none.
      crop: name of the crop, see `training_crop`.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    rand_augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    crop: str = "random_resized"
    unflipped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Draws:
    """Draws of one example: its key, and the grid of each of its clips.

    Attributes:
      key: (seed, epoch, example).
      grids: one a clip.
    """

    key: tuple[int, ...]
    grids: tuple[Grid, ...]

    def rng(self, stream: Stream, clip: int = 0) -> np.random.Generator:
        """The generator of a purpose; further clips have generators of their own."""
        return seeding.rng(*self.key, stream, *([clip] if clip else []))


def joint_clips(
    record: Record,
    specs: Sequence[ClipSpec],
    draws: Draws,
    augmentation: Augmentation,
    sampling: str,
    repeats: int = 1,
    seconds: float | None = None,
    square_pixels: bool = False,
    note_damage: Callable[[Mapping[str, str]], None] | None = None,
    cache: FrameCache | None = None,
) -> list[list[np.ndarray]]:
    """For each repeat the clips of a video, uint8 [T, R, R, 3] each.

    Repeats share the frames and have fresh crops, mirroring and RandAugment; the clips of a repeat
    share these and differ in frames and resolution.

    Args:
      record: what to read.
      specs: the clips.
      draws: of the example.
      augmentation: what is done to them.
      sampling: frame sampler of clips that name none.
      repeats: of the whole set.
      seconds: time limit, see `open_video`.
      square_pixels: see `open_video`.
      note_damage: told `Video.damage` in the end.
      cache: see `open_video`.

    Raises:
      VideoError: if the video cannot be read.
    """
    crops, flips = draws.rng(Stream.CROP), draws.rng(Stream.FLIP)
    crop = training_crop(augmentation.crop, augmentation.crop_scale, augmentation.crop_ratio)
    mirrors = augmentation.flip and record.origin not in augmentation.unflipped
    options = {"seconds": seconds, "square_pixels": square_pixels, "cache": cache}
    with open_video(record.source, name=record.name, **options) as video:
        frames = [
            _frames(video, record, spec.sampling or sampling, grid, draws.rng(Stream.FRAMES, i))
            for i, (spec, grid) in enumerate(zip(specs, draws.grids, strict=True))
        ]
        sets = []
        for _ in range(repeats):
            box = crop(video.height, video.width, draws.grids[0].resolution, crops)
            flip = mirrors and flips.random() < 0.5
            sets.append(_read(video, frames, draws.grids, box, flip))
        if note_damage is not None:
            note_damage(video.damage())
    if augmentation.rand_augment is not None:
        generator = draws.rng(Stream.AUGMENT)
        sets = [_jointly(augmentation.rand_augment, clips, generator) for clips in sets]
    return sets


def _read(
    video: Video, frames: Sequence[np.ndarray], grids: Sequence[Grid], box: Box, flip: bool
) -> list[np.ndarray]:
    """The clips; those of one resolution are decoded together, once."""
    clips: list[np.ndarray] = [np.empty(0)] * len(grids)
    for resolution in sorted({grid.resolution for grid in grids}):
        own = [i for i, grid in enumerate(grids) if grid.resolution == resolution]
        together = np.concatenate([frames[i] for i in own])
        read = video.read(together, box=box, size=(resolution, resolution), flip=flip)
        ends = np.cumsum([len(frames[i]) for i in own])[:-1]
        for i, clip in zip(own, np.split(read, ends), strict=True):
            clips[i] = clip
    return clips


def _frames(
    video: Video, record: Record, sampling: str, grid: Grid, rng: np.random.Generator
) -> np.ndarray:
    first, last = frame_span(video, record, sampling)
    sampler = span_sampler(video, sampling, first, last)
    return first + sampler.train(last - first, grid.frames, rng)


def _jointly(augment, clips: Sequence[np.ndarray], generator) -> list[np.ndarray]:
    """The same draws for every clip; the generator moves on once."""
    before = copy.deepcopy(generator) if len(clips) > 1 else generator
    first = augment(clips[0], generator)
    return [first, *(augment(clip, copy.deepcopy(before)) for clip in clips[1:])]
