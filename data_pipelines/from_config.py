"""From a config to the batches that it describes."""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Generator, Sequence

import numpy as np
from ml_collections import ConfigDict

from data_pipelines import loader
from data_pipelines.clips.augment import RandAugment
from data_pipelines.clips.crops import ViewPlaces
from data_pipelines.clips.examples import EvalExamples, Item, TrainExamples
from data_pipelines.clips.joint import Augmentation
from data_pipelines.reading.frame_cache import FrameCache, open_cache
from data_pipelines.sources.catalog import Catalog, open_catalog, opens_at_once
from data_pipelines.sources.presence import check_files
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.rows import some
from data_pipelines.sources.video_manifest import bad_videos
from fluxjax.tokens.examples import ExampleSpec, TextSpec

log = logging.getLogger(__name__)

__all__ = ["VideoData", "opens_at_once"]

QUARANTINE = "quarantine.jsonl"


@dataclasses.dataclass(frozen=True)
class VideoData:
    """The training and test videos of a config, and this process's share of their batches.

    Attributes:
      train, test: what to read; None for a split that was not asked for.
      bad: counts unreadable training videos; every evaluation counts afresh.
      config: see `fluxjax.config.keys.base_config`.
      process, processes: number of this process, and how many there are.
      cache: of decoded frames, of both splits; None: every reading decodes.
    """

    train: Catalog | None
    test: Catalog | None
    bad: BadVideos
    config: ConfigDict
    process: int = 0
    processes: int = 1
    cache: FrameCache | None = None

    @classmethod
    def open(
        cls,
        config: ConfigDict,
        process: int = 0,
        processes: int = 1,
        workdir: str | os.PathLike | None = None,
        splits: Sequence[str] = ("train", "test"),
        label_names: Sequence[str] | None = None,
    ) -> "VideoData":
        """Opens the catalogs; the demo corpus is made if it is not there yet.

        Args:
          config: see `fluxjax.config.keys.base_config`.
          process, processes: number of this process, and how many there are.
          workdir: where quarantine.jsonl lists unreadable videos; None for nowhere.
          splits: which to open; test alone needs config.num_classes.
          label_names: of the classes in their order; None: as the training data say.

        Raises:
          ValueError: on a source or a cache that cannot be used, labels beyond
            config.num_classes, or videos of which none is there.
          FileNotFoundError: if a list file or data set does not exist.
        """
        data = config.data
        cache = open_cache(data.cache, data.cache_gib, processes)
        open_source = functools.partial(
            open_catalog,
            data_dir=data.dir,
            root=data.root,
            separator=data.separator,
            frames=data.frames,
            classes=tuple(data.classes),
            label_names=label_names or tuple(data.class_names) or None,
        )
        if set(splits) == {"train", "test"}:
            _check_same_kind(data.train, data.test)
        opened: dict[str, Catalog] = {}
        classes = config.num_classes
        for name in ("train", "test"):
            if name not in splits:
                continue
            catalog = open_source(
                data[name],
                split=data[f"{name}_split"],
                num_classes=classes,
                training=opened.get("train"),
            )
            if not len(catalog):
                raise ValueError(f"config.data.{name}={data[name]!r} holds no video")
            check_files(catalog, f"data.{name}", data[name], data.root)
            classes = classes or catalog.num_classes or None  # 0: records without labels
            opened[name] = catalog
        catalogs = tuple(opened.values())
        listed = bad_videos(data.manifests, catalogs) if data.manifests else {}
        if listed:
            log.info("%d videos are bad by data.manifests and are not tried", len(listed))
        path = None if workdir is None else os.path.join(workdir, QUARANTINE)
        videos = len(catalogs[0])  # those trained on; an evaluation counts afresh
        bad = BadVideos(data.max_bad_share, path, listed, videos)
        return cls(opened.get("train"), opened.get("test"), bad, config, process, processes, cache)

    def train_batches(self, spec: ExampleSpec, first_step: int) -> Generator[Item, None, None]:
        """Training batches from `first_step` to the config's last, see `loader.train_batches`."""
        config, data = self.config, self.config.data
        augment = data.rand_augment
        examples = TrainExamples(
            self.train,
            spec,
            seed=config.seed,
            videos_per_batch=config.batch_size // data.repeats,
            bad=self.bad,
            augmentation=Augmentation(
                tuple(data.crop_scale),
                tuple(data.crop_ratio),
                data.flip,
                None if augment is None else RandAugment.parse(augment),
                data.crop,
                unflipped=tuple(data.unflipped),
            ),
            sampling=data.sampling,
            repeats=data.repeats,
            per_clip=config.grids.per_clip,
            seconds=data.decode_seconds,
            square_pixels=data.square_pixels,
            cache=self.cache,
        )
        batches = loader.train_batches(
            examples,
            first_step,
            config.total_steps,
            workers=data.workers,
            process=self.process,
            processes=self.processes,
        )
        return batches if self.cache is None else self._reported(batches, first_step)

    def _reported(
        self, batches: Generator[Item, None, None], first_step: int
    ) -> Generator[Item, None, None]:
        """The batches; the cache reports after each epoch of them, and in the end."""
        videos, count = self.config.batch_size // self.config.data.repeats, len(self.train)
        with contextlib.closing(batches):
            try:
                for step, batch in enumerate(batches, first_step):
                    yield batch
                    if (step + 1) * videos // count > step * videos // count:
                        self.cache.report()
            finally:
                self.cache.report()

    def eval_batches(
        self, spec: ExampleSpec, split: str = "test", videos: int | None = None
    ) -> Generator[Item, None, None]:
        """Every video of a split once, without augmentation; see `loader.eval_batches`.

        Args:
          spec: what an example holds; every clip has one grid.
          split: test or train.
          videos: this many, evenly spaced; None, or more than there are: all.
        """
        config, catalog = self.config, some(self.catalog(split), videos)
        examples = EvalExamples(
            catalog,
            spec,
            bad=self.bad.fresh(
                loader.eval_rows(len(catalog), config.eval.batch_size, self.process, self.processes)
            ),
            sampling=config.data.sampling,
            clips=config.eval.clips,
            crops=config.eval.crops,
            seconds=config.data.decode_seconds,
            square_pixels=config.data.square_pixels,
            places=ViewPlaces(config.eval.crop_share, config.eval.crop_place),
            cache=self.cache,
        )
        return loader.eval_batches(
            examples,
            config.eval.batch_size,
            workers=config.data.workers,
            process=self.process,
            processes=self.processes,
        )

    def encode(self, texts: Sequence[str], spec: TextSpec) -> Item:
        """Token ids of texts: text [M, L] int32 and text_length [M] int32, as captions have them.

        Raises:
          OSError, ValueError: if the vocabulary cannot be read, or used.
        """
        from data_pipelines.text.kinds import tokenizer  # only where there is text

        encode = tokenizer(spec.kind, spec.tokenizer).encode
        ids, lengths = zip(*(encode(text, spec.length) for text in texts), strict=True)
        return {"text": np.stack(ids), "text_length": np.stack(lengths)}

    def catalog(self, split: str) -> Catalog:
        """The videos of a split.

        Raises:
          ValueError: if it was not opened.
        """
        found = {"train": self.train, "test": self.test}[split]
        if found is None:
            raise ValueError(f"the {split} videos were not opened; ask for them in splits")
        return found


def _check_same_kind(train: str, test: str) -> None:
    """Refuses a training list of one's own beside the demo's test videos, and the other way round.

    Blank training videos measure speed; what they are tested on does not matter.
    """
    kinds = [source.partition(":")[0] for source in (train, test)]
    if "demo" in kinds and set(kinds) not in ({"demo"}, {"demo", "dummy"}):
        ours, own = ("test", "train") if kinds[1] == "demo" else ("train", "test")
        value = test if ours == "test" else train
        raise ValueError(
            f"config.data.{ours}={value!r} is the demo corpus, which has nothing to do with "
            f"config.data.{own}; name {ours} videos of the same classes"
        )
