"""One example of a batch as a pure function of its position: clips, text and targets.

Nothing here keeps an iterator's state. Training position p is video p of an endless reshuffled
sequence; every draw is keyed by (seed, epoch, example), the grid of a batch by (seed, step).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from data_pipelines.clips import seeding
from data_pipelines.clips.crops import WHOLE, ViewPlaces
from data_pipelines.clips.joint import Augmentation, Draws, joint_clips
from data_pipelines.clips.sampling import draw_grid
from data_pipelines.clips.seeding import Stream
from data_pipelines.clips.views import eval_views, fetch
from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.frame_cache import FrameCache
from data_pipelines.reading.time_limit import limited
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.records import Catalog, Record
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import clip_patches

MAX_REPLACEMENTS = 10  # videos tried for one place of a batch

Item = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainExamples:
    """Training examples by position.

    Attributes:
      catalog: what to read.
      spec: what an example holds.
      seed: of every draw.
      videos_per_batch: over all hosts; one grid is drawn for each batch.
      bad: counts unreadable videos, which are replaced by others.
      augmentation: of the clips.
      sampling: name of the frame sampler, see `sampling.frame_sampler`.
      repeats: examples cut from one video, same frames, with fresh crops.
      per_clip: draw a grid for every example, not for every batch.
      seconds: time limit of reading one video; None for none.
      square_pixels: show non-square pixels in the shape that players do.
      cache: of decoded frames; None: every reading decodes.
    """

    catalog: Catalog
    spec: ExampleSpec
    seed: int
    videos_per_batch: int
    bad: BadVideos
    augmentation: Augmentation = Augmentation()
    sampling: str = "sparse"
    repeats: int = 1
    per_clip: bool = False
    seconds: float | None = None
    square_pixels: bool = False
    cache: FrameCache | None = None

    def __post_init__(self):
        put = functools.partial(object.__setattr__, self)  # the dataclass is frozen
        put("_order", seeding.order(self.seed, len(self.catalog), self.catalog.weights()))
        put("_per_video", PerVideo(self.catalog, self.spec))

    def item(self, position: int) -> Item:
        """The examples of one video.

        Args:
          position: global position, step * videos_per_batch + place in the batch.

        Returns:
          The arrays of `spec.arrays()`, each with a leading axis [repeats], and
          example [repeats] int64 (index in the catalog).

        Raises:
          VideoError: if no readable video is found, or too many are bad.
        """
        epoch, example = self._order.at(position)
        step = position // self.videos_per_batch
        for attempt in range(MAX_REPLACEMENTS):
            draws = self._draws(step, epoch, example)
            try:
                record = fetch(self.catalog, example, self.bad)
                read = functools.partial(
                    joint_clips, record, self.spec.clips, draws, self.augmentation,
                    self.sampling, self.repeats, self.seconds, self.square_pixels,
                    self.bad.note_damage, self.cache,
                )  # fmt: skip
                clips = limited(read, self.seconds, record.name)
            except VideoError as error:
                self.bad.note(error)
                last = error.name
                replacement = seeding.rng(self.seed, epoch, example, attempt, Stream.REPLACEMENT)
                example = int(replacement.integers(len(self.catalog)))
                continue
            self.bad.note(None)
            return self._stacked(clips, record, draws, example)
        raise VideoError(
            last,
            f"and {MAX_REPLACEMENTS - 1} videos drawn in its place could not be read",
        )

    def _draws(self, step: int, epoch: int, example: int) -> Draws:
        key = (epoch, example) if self.per_clip else (step,)
        grids = tuple(
            draw_grid(clip.grids, Draws((self.seed, *key), ()).rng(Stream.GRID, i))
            for i, clip in enumerate(self.spec.clips)
        )
        return Draws((self.seed, epoch, example), grids)

    def _stacked(self, clips, record: Record, draws: Draws, example: int) -> Item:
        item = {}
        for i, spec in enumerate(self.spec.clips):
            item |= clip_arrays(spec, [one[i] for one in clips])
        once = self._per_video.arrays(record, example, draws.rng(Stream.CAPTION))
        once["example"] = np.int64(example)
        item |= {name: np.stack([x] * self.repeats) for name, x in once.items()}
        if "draw" in self.spec.targets:
            numbers = draws.rng(Stream.DEVICE).integers(2**31, size=self.repeats)
            item["draw"] = numbers.astype(np.int32)
        return item


@dataclasses.dataclass(frozen=True)
class EvalExamples:
    """Deterministic views of test videos: temporal clips x spatial crops on one grid a clip.

    Attributes:
      catalog: what to read, in order.
      spec: what an example holds; every clip has one grid.
      bad: counts unreadable videos.
      sampling: name of the frame sampler, see `sampling.frame_sampler`.
      clips: temporal views.
      crops: spatial views.
      seconds: time limit of reading one video; None for none.
      square_pixels: show non-square pixels in the shape that players do.
      places: where the spatial views lie.
      cache: of decoded frames; None: every reading decodes.
    """

    catalog: Catalog
    spec: ExampleSpec
    bad: BadVideos
    sampling: str = "sparse"
    clips: int = 1
    crops: int = 1
    seconds: float | None = None
    square_pixels: bool = False
    places: ViewPlaces = WHOLE
    cache: FrameCache | None = None

    def __post_init__(self):
        object.__setattr__(self, "_per_video", PerVideo(self.catalog, self.spec))

    def item(self, index: int) -> Item:
        """All views of video `index`.

        An index beyond the catalog gives padding of weight 0, so that every host can run the same
        number of full batches. An unreadable video keeps its weight, with targets of -1 that no
        prediction equals: it counts as wrong and not as absent.

        Returns:
          The arrays of `spec.arrays()`, those of clips with a leading axis [views], and weight
          float32, readable bool, example int64 scalars.
        """
        real = index < len(self.catalog)
        record, clips = None, None
        if real:
            try:
                record = fetch(self.catalog, index, self.bad)
                clips = limited(functools.partial(self._views, record), self.seconds, record.name)
                self.bad.note(None)
            except VideoError as error:
                self.bad.note(error)
                record = None
        if clips is None:
            blank = [np.zeros((t, r, r, 3), np.uint8) for t, r in self._grids()]
            clips = [[clip] * (self.clips * self.crops) for clip in blank]
        item = {}
        for spec, views in zip(self.spec.clips, clips, strict=True):
            item |= clip_arrays(spec, views)
        return item | self._per_video.arrays(record, index) | {
            "weight": np.float32(real),
            "readable": np.bool_(record is not None),
            "example": np.int64(index),
        }  # fmt: skip

    def _grids(self):
        return [spec.grids[0] for spec in self.spec.clips]

    def _views(self, record: Record) -> list[list[np.ndarray]]:
        return [
            eval_views(
                record, spec.grids[0], spec.sampling or self.sampling, self.clips, self.crops,
                seconds=self.seconds, square_pixels=self.square_pixels, places=self.places,
                note_damage=self.bad.note_damage, cache=self.cache,
            )
            for spec in self.spec.clips
        ]  # fmt: skip


class PerVideo:
    """What an example has once, whatever its clips: text and targets."""

    def __init__(self, catalog: Catalog, spec: ExampleSpec):
        """Opens the vocabulary, and numbers equal captions, where the spec asks for them.

        Raises:
          ValueError: if it asks for text of videos that have no captions.
          OSError: if the vocabulary cannot be read.
        """
        self._spec = spec
        self._groups = catalog.groups() if "group" in spec.targets else None
        self._tokenizer = None
        if spec.text is not None:
            from data_pipelines.text.kinds import tokenizer  # only where there is text

            self._tokenizer = tokenizer(spec.text.kind, spec.text.tokenizer)
            if spec.text.ids is not None and self._tokenizer.vocab_size > spec.text.ids:
                raise ValueError(
                    f"{spec.text.tokenizer} has {self._tokenizer.vocab_size} ids, the model knows "
                    f"{spec.text.ids}; give the model's own vocabulary, or set "
                    "config.model.vocab_size"
                )

    def arrays(
        self, record: Record | None, index: int, rng: np.random.Generator | None = None
    ) -> Item:
        """text [L] int32, text_length, and targets, scalars; of no record: no tokens, and -1 (but a
        relevancy of 0).

        Args:
          record: None for padding, and for a video that cannot be read.
          index: of the record in the catalog.
          rng: draws the caption; None takes the first.
        """
        item: Item = {}
        if "label" in self._spec.targets:
            item["label"] = np.int32(-1 if record is None else record.label)
        if self._groups is not None:
            item["group"] = np.int32(-1 if record is None else self._groups[index])
        if "draw" in self._spec.targets:
            item["draw"] = np.int32(index)
        number = (
            0 if record is None or rng is None else int(rng.integers(max(len(record.captions), 1)))
        )
        if self._tokenizer is not None:
            item["text"], item["text_length"] = self._tokenizer.encode(
                _caption(record, number), self._spec.text.length
            )
        if "relevancy" in self._spec.targets:
            graded = record is not None and record.relevancies
            value = record.relevancies[number] if graded else float(record is not None)
            item["relevancy"] = np.float32(value)
        return item


def _caption(record: Record | None, number: int) -> str:
    if record is None:
        return ""
    if not record.captions:
        raise ValueError(
            f"{record.name} has no caption, and the task needs text; name data with captions "
            "(demo:captions, or an annotation file with the key caption)"
        )
    return record.captions[number]


def clip_arrays(spec: ClipSpec, clips: Sequence[np.ndarray]) -> Item:
    """The arrays of several clips [T, R, R, 3] uint8 of one spec, stacked; see `ClipSpec.arrays`.

    Raises:
      ValueError: if a clip has more patches than slots.
    """
    if spec.slots is None:
        return {spec.key("video"): np.stack(clips)}
    patches = np.zeros((len(clips), spec.slots, spec.patch**2 * 3), np.uint8)
    grids = np.zeros((len(clips), 3), np.int32)
    for row, grid, clip in zip(patches, grids, clips, strict=True):
        cut = clip_patches(clip, spec.patch)
        row[: len(cut)] = cut
        grid[:] = len(clip), clip.shape[1] // spec.patch, clip.shape[2] // spec.patch
    return {spec.key("patches"): patches, spec.key("grid"): grids}
