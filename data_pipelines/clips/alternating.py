"""Batches of videos and of images in turn, as joint training on both takes them."""

import dataclasses

from data_pipelines.clips.examples import Item, TrainExamples
from fluxjax.tokens.examples import ExampleSpec
from fluxjax.tokens.grids import Grid


@dataclasses.dataclass(frozen=True)
class Alternating:
    """Training examples by position: even steps are of videos, odd ones of images.

    Each source is read in the order that it has alone. It is made like a `TrainExamples` and stands
    in the place of one.

    Attributes:
      videos, images: of equal batches; arrays of equal shapes.
    """

    videos: TrainExamples
    images: TrainExamples

    @property
    def videos_per_batch(self) -> int:
        """Of either source, over all hosts."""
        return self.videos.videos_per_batch

    def item(self, position: int) -> Item:
        """The examples of one video or image, see `TrainExamples.item`.

        Args:
          position: global position, step * videos_per_batch + place in the batch.
        """
        step, place = divmod(position, self.videos_per_batch)
        turn, odd = divmod(step, 2)
        source = self.images if odd else self.videos
        return source.item(turn * self.videos_per_batch + place)


def of_stills(spec: ExampleSpec) -> ExampleSpec:
    """The same of images: one frame at each of the spec's resolutions; its clips are packed."""
    clips = (
        dataclasses.replace(
            clip, grids=tuple(dict.fromkeys(Grid(1, grid.resolution) for grid in clip.grids))
        )
        for clip in spec.clips
    )
    return dataclasses.replace(spec, clips=tuple(clips))
