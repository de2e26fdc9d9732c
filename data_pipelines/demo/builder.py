"""The TFDS builder of the demo corpus. Imports TFDS: import it only to build or read."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import io
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging

from data_pipelines.demo import captions as captions_lib
from data_pipelines.demo import encode, motion, render
from data_pipelines.progress import progress

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Scanned digits moving over photo texture; the label is the motion, and no single frame shows it.
Clips are 128x128 pixels, 32 frames, H.264 with B-frames. Some variants have texts as well.
"""


@dataclasses.dataclass(kw_only=True)
class DemoConfig(tfds.core.BuilderConfig):
    """A variant of the corpus and its size (train, test)."""

    variant: str = "easy"
    num_examples: tuple[int, int] = motion.EASY.num_examples


def demo_config(variant: str, num_examples: tuple[int, int] | None = None) -> DemoConfig:
    """The configuration of a variant; another size gets another name, so the two never mix.

    Raises:
      ValueError: unknown variant, or a size below one.
    """
    full = render.lookup(variant).num_examples
    sizes = full if num_examples is None else tuple(num_examples)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"num_examples must be (train, test), both at least 1, not {sizes}")
    name = variant if sizes == full else f"{variant}_{sizes[0]}_{sizes[1]}"
    return DemoConfig(
        name=name,
        description=f"Demo corpus, {variant}: {', '.join(render.lookup(variant).motions)}.",
        variant=variant,
        num_examples=sizes,
    )


class FluxDemo(tfds.core.GeneratorBasedBuilder):
    """Registered in TFDS as `flux_demo`; stored as array_record for random access."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [demo_config(name) for name in motion.VARIANTS]
    # TFDS derives this with importlib_resources, which it uses but does not require (4.9.10).
    code_path = pathlib.Path(__file__)

    def __init__(self, *, file_format: Any = None, **kwargs: Any):
        """As any TFDS builder, but the format defaults to array_record."""
        super().__init__(file_format=file_format or "array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        variant = render.lookup(self.builder_config.variant)
        texts = {
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "photo": tfds.features.ClassLabel(names=list(render.PHOTOS)),
        }
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    # Bytes of the file as they are: features.Video would store decoded frames.
                    "video": tfds.features.Tensor(shape=(), dtype=np.object_),
                    "label": tfds.features.ClassLabel(names=list(variant.motions)),
                    "digit": tfds.features.Scalar(np.int64),
                    "index": tfds.features.Scalar(np.int64),
                    **(texts if variant.captioned else {}),
                }
            ),
            supervised_keys=("video", "label"),
            disable_shuffling=True,  # record i is example i
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        sizes = zip(render.SPLITS, self.builder_config.num_examples, strict=True)
        return {split: self._generate_examples(split, size) for split, size in sizes}

    def _generate_examples(self, split: str, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        render.sources()  # once, before the workers ask for it at the same time
        make = functools.partial(example, self.builder_config.variant, split)
        with progress(size, "clips", log) as note:
            for made in _ordered_map(make, range(size), workers=_num_workers()):
                yield made["index"], made
                note(made["index"] + 1, split)


def example(variant: str, split: str, index: int) -> dict[str, Any]:
    """Features of one example: a pure function of its arguments."""
    clip = render.render(variant, split, index)
    texts = {}
    if motion.VARIANTS[variant].captioned:
        texts = {
            "captions": list(captions_lib.captions(variant, split, index, clip)),
            "photo": clip.photo,
        }
    return {
        "video": encode.encode_h264(clip.frames, fps=motion.FPS),
        "label": clip.label,
        "digit": clip.digit,
        "index": index,
        **texts,
    }


def prepared(variant: str, data_dir: str, num_examples: tuple[int, int] | None) -> FluxDemo:
    """The builder of a corpus, which is generated unless it is there; no network is asked."""
    config = demo_config(variant, num_examples)
    # TFDS wants its own configurations by name, not by an equal object.
    name = config.name if config.name in FluxDemo.builder_configs else config
    with quiet():  # a small corpus is a "custom configuration", which TFDS warns about
        builder = FluxDemo(config=name, data_dir=data_dir)
        if builder.is_prepared():
            return builder
        home = pathlib.Path(builder.data_dir).parent
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            builder = FluxDemo(config=name, data_dir=data_dir)
            if builder.is_prepared():  # by the process that was waited for
                return builder
            for left in sorted(home.glob("incomplete*")):
                log.warning("removing %s, which an interrupted preparation left", left)
                shutil.rmtree(left)
            sizes = sum(builder.builder_config.num_examples)
            log.info("making the demo corpus %s, %d clips, in %s", config.name, sizes, home)
            tfds.disable_progress_bar()  # three at a time, and lines about downloads of nothing
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
            return builder


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process prepares a corpus in `folder`."""
    with open(folder / "lock", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from logging each step; errors still come through."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)


def _num_workers() -> int:
    """Threads that draw and encode; NumPy and x264 release the lock for most of the time."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 8)


def _ordered_map(function: Callable, items: Iterable, *, workers: int) -> Iterator[Any]:
    """``map`` over threads, in order, with a bounded number of results waiting."""
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
