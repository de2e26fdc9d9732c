"""Packed clips with a class: the examples of classification, and the first composition of specs."""

from collections.abc import Sequence

from data_pipelines.clips.augment import RandAugment
from data_pipelines.clips.examples import EvalExamples, TrainExamples
from data_pipelines.clips.joint import Augmentation
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.records import Catalog
from fluxjax.tokens.examples import packed
from fluxjax.tokens.grids import PATCH, Grid


class TrainClips(TrainExamples):
    """`TrainExamples` of one packed clip and its class."""

    def __init__(
        self,
        catalog: Catalog,
        grids: Sequence[Grid],
        seed: int,
        videos_per_batch: int,
        slots: int,
        bad: BadVideos,
        patch: int = PATCH,
        sampling: str = "sparse",
        crop_scale: tuple[float, float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        rand_augment: RandAugment | None = None,
        repeats: int = 1,
        per_clip: bool = False,
        seconds: float | None = None,
    ):
        """Clips of `catalog` on `grids`, padded to `slots` tokens; see the attributes of
        `TrainExamples` and `Augmentation`."""
        super().__init__(
            catalog,
            packed(tuple(grids), slots, patch),
            seed,
            videos_per_batch,
            bad,
            Augmentation(crop_scale, crop_ratio, flip, rand_augment),
            sampling,
            repeats,
            per_clip,
            seconds,
        )


class EvalClips(EvalExamples):
    """`EvalExamples` of one packed clip and its class."""

    def __init__(
        self,
        catalog: Catalog,
        grid: Grid,
        slots: int,
        bad: BadVideos,
        patch: int = PATCH,
        sampling: str = "sparse",
        clips: int = 1,
        crops: int = 1,
        seconds: float | None = None,
    ):
        """Views of `catalog` on `grid`, padded to `slots` tokens; see `EvalExamples`."""
        spec = packed((grid,), slots, patch)
        super().__init__(catalog, spec, bad, sampling, clips, crops, seconds)
